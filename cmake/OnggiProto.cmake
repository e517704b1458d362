# onggi_proto_library(NAME FILE... [GRPC] [DEPS TARGET...]): C++ of .proto files, and with GRPC of their
# services. Files are named from the repository root, import each other by that name, and are
# included by it: common/proto/x.proto is "common/proto/x.pb.h" (GRPC: "common/proto/x.grpc.pb.h").
# DEPS are the libraries of imported files.
function(onggi_proto_library name)
  cmake_parse_arguments(arg "GRPC" "" "DEPS" ${ARGN})
  set(sources)
  foreach(proto ${arg_UNPARSED_ARGUMENTS})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    get_filename_component(folder ${stem} DIRECTORY)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${folder})
    set(out ${CMAKE_BINARY_DIR}/${stem})
    set(outputs ${out}.pb.cc ${out}.pb.h)
    set(command protobuf::protoc --cpp_out=${CMAKE_BINARY_DIR})
    if(arg_GRPC)
      list(APPEND outputs ${out}.grpc.pb.cc ${out}.grpc.pb.h)
      list(APPEND command --grpc_out=${CMAKE_BINARY_DIR}
        --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>)
      list(APPEND sources ${out}.grpc.pb.cc)
    endif()
    add_custom_command(
      OUTPUT ${outputs}
      COMMAND ${command} -I${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/${proto}
      DEPENDS ${CMAKE_SOURCE_DIR}/${proto} protobuf::protoc)
    list(APPEND sources ${out}.pb.cc)
  endforeach()
  add_library(${name} STATIC ${sources})
  # Generated headers are not held to our warnings.
  target_include_directories(${name} SYSTEM PUBLIC ${CMAKE_BINARY_DIR})
  # The full library also where messages are lite: gRPC's reflection loads it, and a process must
  # not have both.
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf ${arg_DEPS})
  if(arg_GRPC)
    target_link_libraries(${name} PUBLIC gRPC::grpc++)
  endif()
  target_compile_options(${name} PRIVATE -fPIE)
  if(ONGGI_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=${ONGGI_SANITIZE})
  endif()
endfunction()

# Compile options shared by every Onggi target, and the helpers that declare one target per folder.

add_library(onggi_options INTERFACE)
target_include_directories(onggi_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_options(onggi_options INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror -fno-omit-frame-pointer -fPIE)
target_link_options(onggi_options INTERFACE -pie)
target_compile_definitions(onggi_options INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_REGEX=1 SPDLOG_FMT_EXTERNAL)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports false positives from inlined libstdc++ and Asio internals.
  target_compile_options(onggi_options INTERFACE
    -fcoroutines -Wno-maybe-uninitialized -Wno-restrict -Wno-array-bounds -Wno-stringop-overflow
    -Wno-stringop-overread -Wno-mismatched-new-delete)
endif()
if(ONGGI_SANITIZE)
  target_compile_options(onggi_options INTERFACE
    -fsanitize=${ONGGI_SANITIZE} -fno-sanitize-recover=all
    # After the line above, or it would be undone; a target's own options come before.
    $<$<BOOL:$<TARGET_PROPERTY:ONGGI_NO_VPTR_CHECK>>:-fno-sanitize=vptr>)
  target_link_options(onggi_options INTERFACE -fsanitize=${ONGGI_SANITIZE})
endif()
if(ONGGI_FUZZ)
  target_compile_options(onggi_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
find_program(LLD_PROGRAM NAMES ld.lld-16 ld.lld)
if(LLD_PROGRAM AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_link_options(onggi_options INTERFACE --ld-path=${LLD_PROGRAM})
endif()

# One precompiled header for the whole tree: the standard library and Asio are most of the parse time.
# Written once: a new time stamp would rebuild everything with every run of CMake.
if(NOT EXISTS ${CMAKE_BINARY_DIR}/onggi_pch.cc)
  file(WRITE ${CMAKE_BINARY_DIR}/onggi_pch.cc "")
endif()
add_library(onggi_pch OBJECT ${CMAKE_BINARY_DIR}/onggi_pch.cc)
target_link_libraries(onggi_pch PRIVATE onggi_options)
target_precompile_headers(onggi_pch PRIVATE
  <algorithm> <array> <atomic> <chrono> <cstdint> <deque> <functional> <map> <memory> <mutex>
  <optional> <span> <string> <string_view> <thread> <unordered_map> <utility> <variant> <vector>
  <boost/asio/awaitable.hpp> <boost/asio/co_spawn.hpp> <boost/asio/io_context.hpp>
  <boost/asio/ip/tcp.hpp> <boost/asio/steady_timer.hpp> <boost/asio/use_awaitable.hpp>)

# onggi_library(NAME DEPS...): a static library of the folder's *.cc files.
function(onggi_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(NOT sources)  # headers only
    set(sources ${CMAKE_BINARY_DIR}/onggi_pch.cc)
  endif()
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC onggi_options ${ARGN})
  target_precompile_headers(${name} REUSE_FROM onggi_pch)
endfunction()

# onggi_test(NAME DEPS...): a GoogleTest binary of the folder's *_test.cc files.
function(onggi_test name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${ARGN} GTest::gmock_main)
  target_precompile_headers(${name} REUSE_FROM onggi_pch)
  add_test(NAME ${name} COMMAND ${name})
endfunction()

include(OnggiProto)

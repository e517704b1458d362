// Frames of the stream between nodes: whatever a peer sends is decoded or refused.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "replication/transport/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace onggi::transport;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  FrameReader reader(onggi::NodeId(2), onggi::NodeId(1));
  FrameContent content;
  // The first half may leave configurations for the second.
  if (!reader.Read(input.substr(0, size / 2), &content).ok()) return 0;
  if (!reader.Read(input.substr(size / 2), &content).ok()) return 0;
  FrameWriter writer;
  for (const GroupMessage& message : content.messages) writer.Add(message);
  size_t written = 0;
  (void)writer.Finish(&written);
  return 0;
}

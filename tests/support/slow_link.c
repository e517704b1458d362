/* slow_link FROM TO MILLISECONDS: joins two network interfaces, and delays what goes FROM -> TO.
 *
 * For kernels without netem. It stands between a veth and the bridge as long as a test wants delay. Frames
 * carry their virtio header across, so that offloaded checksums and segmentation stay what they were. What
 * does not fit into kMaxWaiting bytes is lost, as on any link. Ends with SIGTERM. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum { kMaxFrame = sizeof(struct virtio_net_hdr) + 64 + 65536, kMaxWaiting = 64 << 20 };

struct Frame {
  struct Frame* next;
  int64_t due_ns;
  size_t size;
  char data[];
};

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void Check(int good, const char* what) {
  if (good) return;
  perror(what);
  exit(1);
}

static int Open(const char* interface) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  Check(fd >= 0, "socket");
  const int on = 1, buffer = 8 << 20;
  Check(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) == 0, "PACKET_VNET_HDR");
  Check(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0, "PACKET_IGNORE_OUTGOING");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = (int)if_nametoindex(interface);
  Check(address.sll_ifindex > 0, interface);
  Check(bind(fd, (struct sockaddr*)&address, sizeof address) == 0, "bind");
  return fd;
}

int main(int count, char** arguments) {
  if (count != 4) return 2;
  const int from = Open(arguments[1]), to = Open(arguments[2]);
  const int64_t delay_ns = atoll(arguments[3]) * 1000000;
  static char buffer[kMaxFrame];
  struct Frame *first = NULL, **last = &first;
  size_t waiting = 0;
  puts("ready");
  fflush(stdout);
  for (;;) {
    const int64_t now = Now();
    while (first != NULL && first->due_ns <= now) {
      struct Frame* const frame = first;
      if (send(to, frame->data, frame->size, 0) < 0 && errno != EAGAIN && errno != ENOBUFS &&
          errno != EMSGSIZE && errno != EINVAL && errno != ENETDOWN) {
        Check(0, "send");
      }
      first = frame->next;
      if (first == NULL) last = &first;
      waiting -= frame->size;
      free(frame);
    }
    struct timespec wait = {1, 0};
    if (first != NULL) {
      const int64_t left = first->due_ns - now;
      wait.tv_sec = left / 1000000000;
      wait.tv_nsec = left % 1000000000;
    }
    struct pollfd ready[2] = {{.fd = from, .events = POLLIN}, {.fd = to, .events = POLLIN}};
    ppoll(ready, 2, &wait, NULL);
    ssize_t size;
    while ((size = recv(to, buffer, sizeof buffer, 0)) > 0) {
      if (send(from, buffer, (size_t)size, 0) < 0) { /* lost, as on any link */
      }
    }
    while ((size = recv(from, buffer, sizeof buffer, 0)) > 0) {
      if (waiting + (size_t)size > kMaxWaiting) continue;
      struct Frame* const frame = malloc(sizeof *frame + (size_t)size);
      Check(frame != NULL, "malloc");
      frame->next = NULL;
      frame->due_ns = Now() + delay_ns;
      frame->size = (size_t)size;
      memcpy(frame->data, buffer, (size_t)size);
      *last = frame;
      last = &frame->next;
      waiting += frame->size;
    }
  }
}

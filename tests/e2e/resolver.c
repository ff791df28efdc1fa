/* SPDX-License-Identifier: MIT */
/* resolver.c -- getaddrinfo as a test wants it: preloaded into a program, it resolves every name
 * that is not an address itself to those listed in E2E_ADDRESSES, in that order. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* One block for each address, as freeaddrinfo expects. */
static struct addrinfo *address_info(const char *text, const char *service) {
  struct addrinfo *info = calloc(1, sizeof *info + sizeof(struct sockaddr_in6));
  struct sockaddr_in *v4 = (struct sockaddr_in *)(info + 1);
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(info + 1);
  in_port_t port = htons((uint16_t)(service ? atoi(service) : 0));
  info->ai_socktype = SOCK_STREAM;
  info->ai_protocol = IPPROTO_TCP;
  info->ai_addr = (struct sockaddr *)(info + 1);
  if (strchr(text, ':')) {
    info->ai_family = v6->sin6_family = AF_INET6;
    info->ai_addrlen = sizeof *v6;
    v6->sin6_port = port;
    inet_pton(AF_INET6, text, &v6->sin6_addr);
  } else {
    info->ai_family = v4->sin_family = AF_INET;
    info->ai_addrlen = sizeof *v4;
    v4->sin_port = port;
    inet_pton(AF_INET, text, &v4->sin_addr);
  }
  return info;
}

static int is_address(const char *name) {
  struct in6_addr any;
  return inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  int family = hints ? hints->ai_family : AF_UNSPEC;
  char *list = strdup(is_address(name) ? name : getenv("E2E_ADDRESSES")), *left = list, *word;
  struct addrinfo **next = found;
  *found = NULL;
  while ((word = strsep(&left, ","))) {
    if (family != AF_UNSPEC && family != (strchr(word, ':') ? AF_INET6 : AF_INET)) continue;
    *next = address_info(word, service);
    next = &(*next)->ai_next;
  }
  free(list);
  return *found ? 0 : EAI_NONAME;
}

/* Sends datagrams to addresses, without a connection. */
#include "tracee.h"
#include <arpa/inet.h>
#include <netinet/in.h>

static struct sockaddr_in at(const char *host, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = port };
	must(inet_pton(AF_INET, host, &address.sin_addr) - 1);
	return address;
}

int main(void)
{
	char buffer[64] = "0123456789";
	struct sockaddr_in free = at("127.0.0.1", 0), unused = at("127.0.0.1", htons(40009));
	socklen_t len = sizeof free;
	int probe = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(probe, (struct sockaddr *)&free, len));
	must(getsockname(probe, (struct sockaddr *)&free, &len));
	fails(bind(probe, (struct sockaddr *)&unused, len), EINVAL);
	must(close(probe));
	/* Bound to a port, it listens. */
	int server = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(server, (struct sockaddr *)&free, len));

	int udp = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(syscall(SYS_sendto, udp, buffer, 1, 0, &free, len));
	must(syscall(SYS_sendto, udp, buffer, 1, 0, &free, len));
	struct sockaddr_in second = at("127.0.0.2", htons(9)), third = at("127.0.0.3", htons(9));
	struct iovec iov = { buffer, 6 };
	struct msghdr message = { .msg_name = &second, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1 };
	must(syscall(SYS_sendmsg, udp, &message, 0));
	struct mmsghdr several[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
	several[1].msg_hdr.msg_name = &third;
	if (must(syscall(SYS_sendmmsg, udp, several, 2, 0)) != 2)
		_exit(__LINE__);
	/* Nowhere. */
	fails(syscall(SYS_sendto, udp, buffer, 1, 0, NULL, 0), EDESTADDRREQ);
	fails(syscall(SYS_sendto, udp, buffer, 65536, 0, &third, len), EMSGSIZE);
	must(recv(server, buffer, 64, 0));
	must(close(udp));

	struct sockaddr_un none = { .sun_family = AF_UNIX, .sun_path = "none" };
	int named = must(socket(AF_UNIX, SOCK_DGRAM, 0));
	fails(syscall(SYS_sendto, named, buffer, 3, 0, &none, sizeof none), ENOENT);
	/* A stream goes where it is connected to, whatever the address says. */
	int pair[2];
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	fails(syscall(SYS_sendto, pair[0], buffer, 3, 0, &none, sizeof none), EISCONN);
	return 0;
}

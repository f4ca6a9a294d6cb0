/* Talks to itself over TCP, UDP and a unix socket. */
#include "tracee.h"
#include <arpa/inet.h>
#include <netinet/in.h>

static struct sockaddr_in loopback(int socket)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof address;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(bind(socket, (struct sockaddr *)&address, len));
	must(getsockname(socket, (struct sockaddr *)&address, &len));
	return address;
}

int main(void)
{
	char buffer[64] = "0123456789";
	int server = must(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in address = loopback(server);
	must(listen(server, 1));
	int client = must(syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	must(syscall(SYS_connect, client, &address, sizeof address));
	int peer = must(accept(server, NULL, NULL));
	must(syscall(SYS_sendto, client, buffer, 10, 0, NULL, 0));
	must(write(client, buffer, 5));
	must(recv(peer, buffer, 15, MSG_WAITALL));
	must(send(peer, buffer, 4, 0));
	must(syscall(SYS_recvfrom, client, buffer, 2, MSG_PEEK, NULL, NULL));
	must(syscall(SYS_recvfrom, client, buffer, 64, 0, NULL, NULL));
	must(close(client));

	int udp = must(socket(AF_INET, SOCK_DGRAM, 0));
	int other = must(socket(AF_INET, SOCK_DGRAM, 0));
	address = loopback(other);
	must(connect(udp, (struct sockaddr *)&address, sizeof address));
	struct iovec iov = { buffer, 6 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	must(syscall(SYS_sendmsg, udp, &message, 0));
	struct mmsghdr several[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
	must(syscall(SYS_sendmmsg, udp, several, 2, 0));
	return 0;
}

/* A pair of unix sockets: a server's and a client's. Messages of every kind. */
#include "tracee.h"

int main(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	char buffer[64] = "0123456789";
	int server = must(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	must(bind(server, (struct sockaddr *)&address, sizeof address));
	must(listen(server, 1));
	int client = must(syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET, 0));
	must(syscall(SYS_connect, client, &address, sizeof address));
	int peer = must(accept(server, NULL, NULL));
	struct iovec iov = { buffer, 6 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	must(syscall(SYS_sendmsg, client, &message, 0));
	struct mmsghdr several[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
	must(syscall(SYS_sendmmsg, client, several, 2, 0));
	for (int i = 0; i < 3; i++) {
		must(read(peer, buffer, 6));
		must(write(peer, buffer, 5));
	}
	must(syscall(SYS_recvmsg, client, &message, MSG_PEEK));
	must(syscall(SYS_recvmsg, client, &message, 0));
	must(syscall(SYS_recvmmsg, client, several, 2, 0, NULL));
	must(close(client));
	int lost = must(socket(AF_UNIX, SOCK_STREAM, 0));
	strcpy(address.sun_path, "none");
	fails(connect(lost, (struct sockaddr *)&address, sizeof address), ENOENT);
	return 0;
}

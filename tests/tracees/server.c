/* Listens, accepts and shuts down, talks through a pair, and shares what it accepted with a child. */
#include "tracee.h"
#include <arpa/inet.h>
#include <netinet/in.h>

static int accept_one(int server)
{
#ifdef SYS_accept
	return must(syscall(SYS_accept, server, NULL, NULL));
#else
	return must(accept(server, NULL, NULL));
#endif
}

int main(void)
{
	char buffer[64] = "0123456789";
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "sub/../socket" };
	socklen_t len = sizeof address;
	int server = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(syscall(SYS_bind, server, &address, len));
	int other = must(socket(AF_UNIX, SOCK_STREAM, 0));
	fails(bind(other, (struct sockaddr *)&address, len), EADDRINUSE);
	must(syscall(SYS_listen, server, 1));
	must(listen(server, 2));
	must(connect(other, (struct sockaddr *)&address, len));
	int peer = accept_one(server);
	must(write(other, buffer, 10));
	must(syscall(SYS_shutdown, other, SHUT_WR));
	must(read(peer, buffer, 64));
	pid_t child = must(fork());
	if (child == 0) {
		must(write(peer, buffer, 3));
		must(syscall(SYS_shutdown, peer, SHUT_RDWR));
		return 0;
	}
	reap(child);
	must(read(other, buffer, 64));
	must(close(other));
	must(close(peer));
	must(close(server));

	/* The kernel chooses the port, and the name behind the NUL. */
	struct sockaddr_in inet = { .sin_family = AF_INET };
	inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	len = sizeof inet;
	server = must(socket(AF_INET, SOCK_STREAM, 0));
	must(bind(server, (struct sockaddr *)&inet, len));
	must(listen(server, 1));
	must(getsockname(server, (struct sockaddr *)&inet, &len));
	int client = must(socket(AF_INET, SOCK_STREAM, 0));
	fails(bind(client, (struct sockaddr *)&inet, len), EADDRINUSE);
	must(connect(client, (struct sockaddr *)&inet, len));
	/* A buffer that is too short for its address. */
	len = 4;
	peer = must(syscall(SYS_accept4, server, &inet, &len, SOCK_CLOEXEC));
	must(close(client));
	must(close(peer));
	must(close(server));

	int pair[2];
	must(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair));
	must(write(pair[0], buffer, 7));
	must(read(pair[1], buffer, 7));
	must(shutdown(pair[0], SHUT_RD));
	return 0;
}

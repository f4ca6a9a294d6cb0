/* Puts things at the reserved descriptor: the session's own socket, which is fine, and others. */
#include "tracee.h"

enum { RESERVED = 900 };

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int client = must(socket(AF_UNIX, SOCK_STREAM, 0));
	strcpy(address.sun_path, argc > 1 ? argv[1] : "");
	must(connect(client, (struct sockaddr *)&address, sizeof address));
	pid_t child = must(fork());
	if (child == 0) {
		int file = must(open("file", O_WRONLY | O_CREAT, 0600));
		must(dup2(file, RESERVED));
		must(write(RESERVED, "unseen", 6));
		must(dup2(file, RESERVED));
		return 0;
	}
	reap(child);
	child = must(fork());
	if (child == 0) {
		int ends[2];
		must(pipe(ends));
		must(fcntl(ends[1], F_DUPFD, RESERVED));
		return 0;
	}
	reap(child);
	must(dup2(client, RESERVED));
	must(close(client));
	/* None of these is stopped. */
	struct iovec iov = { "iov", 3 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	must(write(RESERVED, "w", 1));
	must(send(RESERVED, "send", 4, MSG_NOSIGNAL));
	must(writev(RESERVED, &iov, 1));
	must(sendmsg(RESERVED, &message, 0));
	return 0;
}

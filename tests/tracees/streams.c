/* Sends and receives over connections in every way that there is. Each piece says how it went. */
#include "tracee.h"
#include <netinet/in.h>
#include <sys/sendfile.h>

static int client, server;

static void connect_pair(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof address;
	int listener = must(socket(AF_INET, SOCK_STREAM, 0));
	must(bind(listener, (struct sockaddr *)&address, len));
	must(listen(listener, 1));
	must(getsockname(listener, (struct sockaddr *)&address, &len));
	client = must(socket(AF_INET, SOCK_STREAM, 0));
	must(connect(client, (struct sockaddr *)&address, len));
	server = must(accept(listener, NULL, NULL));
	must(close(listener));
}

static char buffer[1 << 20];

/* Takes so many bytes at the other end. */
static void drain(size_t count)
{
	while (count > 0)
		count -= must(read(server, buffer, count < sizeof buffer ? count : sizeof buffer));
}

static void send_all_ways(void)
{
	char *parts[] = { "wri", "", "tev." };
	struct iovec vector[3];
	for (int i = 0; i < 3; i++)
		vector[i] = (struct iovec){ parts[i], strlen(parts[i]) };
	must(write(client, "write.", 6));
	must(send(client, "send.", 5, 0));
	must(sendto(client, "sendto.", 7, MSG_NOSIGNAL, NULL, 0));
	must(writev(client, vector, 3));
	struct msghdr message = { .msg_iov = vector, .msg_iovlen = 3 };
	parts[0] = "send", vector[0] = (struct iovec){ "send", 4 }, vector[2] = (struct iovec){ "msg.", 4 };
	must(sendmsg(client, &message, 0));
	/* Its address is a null pointer. */
	must(pwritev2(client, &(struct iovec){ "pwritev2.", 9 }, 1, -1, 0));
	drain(6 + 5 + 7 + 7 + 8 + 9);
	struct mmsghdr messages[2] = {
		{ .msg_hdr = { .msg_iov = &(struct iovec){ "sendm", 5 }, .msg_iovlen = 1 } },
		{ .msg_hdr = { .msg_iov = &(struct iovec){ "msg.", 4 }, .msg_iovlen = 1 } },
	};
	must(sendmmsg(client, messages, 2, 0));
	int file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(write(file, "sendfile.", 9));
	off_t start = 0;
	must(sendfile(client, file, &start, 9));
	int ends[2];
	must(pipe(ends));
	must(write(ends[1], "splice.", 7));
	must(splice(ends[0], NULL, client, NULL, 7, 0));
	drain(9 + 9 + 7);
}

static void receive_all_ways(void)
{
	char bytes[64];
	struct iovec vector[2] = { { bytes, 3 }, { bytes + 8, 8 } };
	struct msghdr message = { .msg_iov = vector, .msg_iovlen = 2 };
	must(write(server, "read.", 5));
	must(read(client, bytes, 64));
	must(write(server, "recv.", 5));
	must(recv(client, bytes, 64, MSG_PEEK));
	must(recv(client, bytes, 64, 0));
	must(write(server, "recvfrom.", 9));
	must(recvfrom(client, bytes, 64, 0, NULL, NULL));
	must(write(server, "readv.", 6));
	must(readv(client, vector, 2));
	must(write(server, "recvmsg.", 8));
	must(recvmsg(client, &message, 0));
	must(write(server, "preadv2.", 8));
	must(preadv2(client, vector, 2, -1, 0));
	must(write(server, "gone.", 5));
	must(recv(client, bytes, 5, MSG_TRUNC));
	must(write(server, "recvmmsg.", 9));
	struct mmsghdr messages[1] = { { .msg_hdr = message } };
	must(recvmmsg(client, messages, 1, 0, NULL));
	int ends[2];
	must(pipe(ends));
	must(write(server, "splice.", 7));
	must(splice(client, NULL, ends[1], NULL, 7, 0));
}

int main(void)
{
	connect_pair();
	send_all_ways();
	receive_all_ways();
	must(shutdown(client, SHUT_WR));
	if (read(server, buffer, 1) != 0)
		return __LINE__;
	must(close(client));
	must(close(server));

	/* A long one, by a child that was given its end. */
	int pair[2];
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid_t child = must(fork());
	if (child == 0) {
		memset(buffer, 'x', sizeof buffer);
		buffer[0] = '<', buffer[sizeof buffer - 1] = '>';
		return write(pair[1], buffer, sizeof buffer) == sizeof buffer ? 0 : __LINE__;
	}
	must(close(pair[1]));
	server = pair[0];
	drain(sizeof buffer);
	reap(child);
	must(close(server));

	/* What was not read when it is closed resets the connection. */
	connect_pair();
	must(write(client, "never read.", 11));
	must(close(server));
	fails(read(client, buffer, 64), ECONNRESET);
	must(close(client));
	return 0;
}

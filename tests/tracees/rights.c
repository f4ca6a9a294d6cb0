/* Hands descriptors to others: with messages, and by fetching them. With an argument, gets one from who listens there;
 * with two, is who listens and gives the second. */
#include "tracee.h"

#define FDS 3

static void pack(struct msghdr *message, char *control, struct iovec *iov, const int *fds, int count)
{
	*message = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 1, .msg_control = control };
	message->msg_controllen = CMSG_SPACE(sizeof(int) * FDS);
	if (count == 0)
		return;
	message->msg_controllen = CMSG_SPACE(sizeof(int) * count);
	struct cmsghdr *rights = CMSG_FIRSTHDR(message);
	*rights = (struct cmsghdr){ CMSG_LEN(sizeof(int) * count), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
}

static void unpack(struct msghdr *message, int *fds, int count)
{
	struct cmsghdr *rights = CMSG_FIRSTHDR(message);
	if (!rights || rights->cmsg_len != CMSG_LEN(sizeof(int) * count))
		_exit(__LINE__);
	memcpy(fds, CMSG_DATA(rights), sizeof(int) * count);
}

static _Alignas(8) char control[128];
static char byte[1] = "x";
static struct iovec iov = { byte, 1 };

static void outside(char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strcpy(address.sun_path, argv[1]);
	int fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
	struct msghdr message;
	int got;
	if (!argv[2]) {
		must(connect(fd, (struct sockaddr *)&address, sizeof address));
		pack(&message, control, &iov, NULL, 0);
		must(syscall(SYS_recvmsg, fd, &message, 0));
		unpack(&message, &got, 1);
		must(write(got, "12345", 5));
		_exit(0);
	}
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	must(chmod(argv[1], 0777));
	must(listen(fd, 1));
	must(write(1, "ready\n", 6));
	int peer = must(accept(fd, NULL, NULL));
	got = must(open(argv[2], O_WRONLY | O_CREAT, 0600));
	pack(&message, control, &iov, &got, 1);
	must(syscall(SYS_sendmsg, peer, &message, 0));
	must(read(peer, byte, 1) + 1);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !*argv[1])
		return 0;
	if (argc > 1)
		outside(argv);
	int pair[2], ends[2], fds[FDS], got[FDS];
	struct msghdr message;
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	must(pipe(ends));
	int memory = must(syscall(SYS_memfd_create, "memory", 0));
	int file = must(open("file", O_WRONLY | O_CREAT, 0600));
	must(write(file, "1234", 4));
	fds[0] = ends[1], fds[1] = file, fds[2] = memory;
	pack(&message, control, &iov, fds, FDS);
	must(syscall(SYS_sendmsg, pair[0], &message, 0));
	/* On its way, nobody holds it. */
	must(close(file));
	pid_t child = must(fork());
	if (child == 0) {
		pack(&message, control, &iov, NULL, 0);
		must(syscall(SYS_recvmsg, pair[1], &message, MSG_PEEK));
		unpack(&message, got, FDS);
		must(write(got[1], "56", 2));
		for (int i = 0; i < FDS; i++)
			must(close(got[i]));
		pack(&message, control, &iov, NULL, 0);
		must(syscall(SYS_recvmsg, pair[1], &message, MSG_CMSG_CLOEXEC));
		unpack(&message, got, FDS);
		for (int i = 0; i < FDS; i++)
			must(write(got[i], "789", 3));
		must(ftruncate(got[1], 5));
		must(execl("/proc/self/exe", "tracee", "", NULL));
	}
	reap(child);

	/* Several at once, and a socket among them. */
	int other = must(open("other", O_WRONLY | O_CREAT, 0600));
	struct mmsghdr several[2];
	_Alignas(8) char controls[2][128];
	pack(&several[0].msg_hdr, controls[0], &iov, &other, 1);
	pack(&several[1].msg_hdr, controls[1], &iov, &pair[0], 1);
	must(syscall(SYS_sendmmsg, pair[0], several, 2, 0) - 2);
	must(close(other));
	pack(&several[0].msg_hdr, controls[0], &iov, NULL, 0);
	pack(&several[1].msg_hdr, controls[1], &iov, NULL, 0);
	must(syscall(SYS_recvmmsg, pair[1], several, 2, 0, NULL) - 2);
	unpack(&several[0].msg_hdr, got, 1);
	unpack(&several[1].msg_hdr, got + 1, 1);
	must(write(got[0], "123456", 6));
	must(close(got[0]));
	must(close(got[1]));

	/* Fetched from a child, at the number that is free here too. */
	int number = must(dup(0));
	must(close(number));
	child = must(fork());
	if (child == 0) {
		must(open("theirs", O_WRONLY | O_CREAT, 0600));
		must(write(ends[1], "x", 1));
		must(read(pair[1], byte, 1));
		return 0;
	}
	/* After what the first child wrote. */
	char buffer[4];
	for (int left = 4; left > 0;)
		left -= must(read(ends[0], buffer, left));
	int pidfd = must(syscall(SYS_pidfd_open, child, 0));
	int fetched = must(syscall(SYS_pidfd_getfd, pidfd, number, 0));
	must(write(fetched, "1234567", 7));
	must(close(fetched));
	must(write(pair[0], "x", 1));
	reap(child);
	/* Once more, by its number. */
	number = must(open("again", O_WRONLY | O_CREAT, 0600));
	char name[32] = "/proc/self/fd/0";
	name[strlen(name) - 1] += number;
	must(close(must(open(name, O_WRONLY))));
	return 0;
}

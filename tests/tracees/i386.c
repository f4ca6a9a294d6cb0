/* What only 32-bit programs can call: wider and narrower versions of other calls, and calls of many calls. */
#include "tracee.h"
#include <linux/net.h>
#include <linux/time_types.h>
#include <sys/mount.h>

/* socketcall(2): the arguments are in memory. */
#define socketcall(call, ...) syscall(SYS_socketcall, call, (unsigned long[6]){ __VA_ARGS__ })
#define address_of(value) (unsigned long)(value)

static void files(void)
{
	unsigned uid = getuid(), gid = getgid();
	int file = must(open("file", O_RDWR | O_CREAT, 0600));
	/* More than 4 GiB: the upper half counts. */
	must(syscall(SYS_truncate64, "file", 4096, 1));
	must(syscall(SYS_ftruncate64, file, 8192, 0));
	fails(syscall(SYS_ftruncate, file, -1L), EINVAL);
	must(syscall(SYS_chown32, "file", uid, -1));
	must(syscall(SYS_lchown32, "file", -1, gid));
	must(syscall(SYS_fchown32, file, uid, gid));
	/* 16 bits: the rest is ignored, and 0xffff is unchanged. */
	must(syscall(SYS_chown, "file", 0xffff, 0x70000 | (gid & 0xffff)));
	/* Nanoseconds of 64 bits, of which 32 count. */
	struct __kernel_timespec times[2] = { { 5000000000, (7LL << 32) | 7 }, { 0, UTIME_OMIT } };
	must(syscall(SYS_utimensat_time64, AT_FDCWD, "file", times, 0));
	/* Before 1970. */
	long early[4] = { -2, 5, -1, 0 };
	must(syscall(SYS_utimes, "file", early));
	unsigned long map[6] = { 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096 };
	if (syscall(SYS_mmap, map) == -1)
		_exit(__LINE__);
	map[3] = MAP_PRIVATE;
	if (syscall(SYS_mmap, map) == -1)
		_exit(__LINE__);
	int copy = must(syscall(SYS_fcntl64, file, F_DUPFD_CLOEXEC, 20));
	must(pwrite(copy, "0123456789", 10, 0));
	must(lseek(file, 0, SEEK_SET));
	/* To standard output, read again from where the long offset says; the short one is beside it. */
	loff_t from = 4;
	must(syscall(SYS_sendfile64, 1, file, &from, 3));
	must(close(copy));
	must(close(file));
}

static void sockets(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	char buffer[64] = "0123456789";
	int server = must(socketcall(SYS_SOCKET, AF_UNIX, SOCK_SEQPACKET, 0));
	must(socketcall(SYS_BIND, server, address_of(&address), sizeof address));
	must(socketcall(SYS_LISTEN, server, 1));
	int client = must(socketcall(SYS_SOCKET, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	must(socketcall(SYS_CONNECT, client, address_of(&address), sizeof address));
	int peer = must(socketcall(SYS_ACCEPT, server, 0, 0));
	struct iovec iov = { buffer, 6 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct mmsghdr several[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
	must(socketcall(SYS_SEND, client, address_of(buffer), 1, 0));
	must(socketcall(SYS_SENDTO, client, address_of(buffer), 2, 0, 0, 0));
	must(socketcall(SYS_SENDMSG, client, address_of(&message), 0));
	must(socketcall(SYS_SENDMMSG, client, address_of(several), 2, 0));
	for (int i = 0; i < 5; i++)
		must(read(peer, buffer, 6));
	/* 1 + 2 + 6 + 12 sent. */
	for (int i = 0; i < 7; i++)
		must(write(peer, buffer, 5));
	must(socketcall(SYS_RECV, client, address_of(buffer), 64, MSG_PEEK));
	must(socketcall(SYS_RECV, client, address_of(buffer), 64, 0));
	must(socketcall(SYS_RECVFROM, client, address_of(buffer), 64, 0, 0, 0));
	must(socketcall(SYS_RECVMSG, client, address_of(&message), 0));
	must(socketcall(SYS_RECVMMSG, client, address_of(several), 2, 0, 0));
	must(syscall(SYS_recvmmsg_time64, client, several, 2, 0, NULL));
	/* 7 times 5 received. */
	fails(syscall(SYS_socketcall, SYS_SOCKET, NULL), EFAULT);
	must(close(client));
}

static void mounts(void)
{
	must(unshare(CLONE_NEWUSER | CLONE_NEWNS));
	/* No flags: what is in their register doesn't count. */
	fails(syscall(SYS_umount, "file", MNT_DETACH), EINVAL);
}

int main(void)
{
	files();
	sockets();
	mounts();
	return 0;
}

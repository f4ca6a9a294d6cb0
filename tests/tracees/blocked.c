/* Threads that wait in calls which end with EINTR when their thread is stopped, though no handler runs. Says `ready` when all
   wait, has them go on after a line of input, and prints what each call gave: `1` or the error. Their time limits are an hour:
   none is reached, however slow the machine. */
#include "tracee.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/sem.h>

#define HOUR 3600
#define WAITERS (sizeof(waiters) / sizeof(*waiters))

/* Ends of socket pairs: the waiter's and ours. Each waiter has its own; those that write begin with a full one. */
static int pairs[16][2];
static int semaphore;

/* The call's own struct timespec: that of the C library may be another for 32-bit programs. */
static struct { long seconds, nanoseconds; } hour = {HOUR, 0};

static char byte;
static struct iovec vector = {&byte, 1};
static struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

static int epoll(int fd)
{
	struct epoll_event wanted = {.events = EPOLLIN};
	int poll = must(epoll_create1(0));
	must(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted));
	return poll;
}

static long do_read(int fd) { return syscall(SYS_read, fd, &byte, 1); }
static long do_readv(int fd) { return syscall(SYS_readv, fd, &vector, 1); }
static long do_recvfrom(int fd) { return syscall(SYS_recvfrom, fd, &byte, 1, 0, NULL, NULL); }
static long do_recvmsg(int fd) { return syscall(SYS_recvmsg, fd, &message, 0); }
static long do_recvmmsg(int fd)
{
	struct mmsghdr messages = {.msg_hdr = message};
	return syscall(SYS_recvmmsg, fd, &messages, 1, 0, NULL);
}
static long do_write(int fd) { return syscall(SYS_write, fd, &byte, 1); }
static long do_writev(int fd) { return syscall(SYS_writev, fd, &vector, 1); }
static long do_sendto(int fd) { return syscall(SYS_sendto, fd, &byte, 1, 0, NULL, 0); }
static long do_sendmsg(int fd) { return syscall(SYS_sendmsg, fd, &message, 0); }
static long do_accept4(int fd) { return syscall(SYS_accept4, fd, NULL, NULL, 0) > 0; }
static long do_epoll_wait(int fd)
{
	struct epoll_event event;
	return syscall(SYS_epoll_wait, fd, &event, 1, HOUR * 1000);
}
static long do_epoll_pwait(int fd)
{
	struct epoll_event event;
	return syscall(SYS_epoll_pwait, fd, &event, 1, HOUR * 1000, NULL, 8);
}
static long do_rt_sigtimedwait(int fd)
{
	sigset_t set;
	(void)fd;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return syscall(SYS_rt_sigtimedwait, &set, NULL, &hour, 8) == SIGUSR1;
}
static long do_semop(int fd)
{
	struct sembuf take = {.sem_op = -1};
	(void)fd;
	return semop(semaphore, &take, 1) == 0;
}

static struct waiter {
	const char *name;
	long (*call)(int fd);
	enum { READS, WRITES, ACCEPTS, POLLS, ELSE } kind;
	volatile pid_t tid;
	int fd;
	long result;
} waiters[] = {
	{"read", do_read, READS},
	{"readv", do_readv, READS},
	{"recvfrom", do_recvfrom, READS},
	{"recvmsg", do_recvmsg, READS},
	{"recvmmsg", do_recvmmsg, READS},
	{"write", do_write, WRITES},
	{"writev", do_writev, WRITES},
	{"sendto", do_sendto, WRITES},
	{"sendmsg", do_sendmsg, WRITES},
	{"accept4", do_accept4, ACCEPTS},
	{"epoll_wait", do_epoll_wait, POLLS},
	{"epoll_pwait", do_epoll_pwait, POLLS},
	{"rt_sigtimedwait", do_rt_sigtimedwait, ELSE},
	{"semop", do_semop, ELSE},
};

static void *wait_in_call(void *argument)
{
	struct waiter *self = argument;
	self->tid = syscall(SYS_gettid);
	self->result = self->call(self->fd);
	if (self->result < 0)
		self->result = -errno;
	return NULL;
}

/* Whether a thread has come to its call and sleeps. */
static int sleeps(struct waiter *waiter)
{
	char path[64], text[2] = "";
	if (!waiter->tid)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)waiter->tid);
	FILE *file = fopen(path, "r");
	int sleeping = file && fscanf(file, "%*d (%*[^)]) %1s", text) == 1 && text[0] == 'S';
	if (file)
		fclose(file);
	return sleeping;
}

int main(void)
{
	struct timeval limit = {.tv_sec = HOUR};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(address);
	pthread_t threads[WAITERS];
	sigset_t set;
	char full[4096], line[16];

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	semaphore = must(semget(IPC_PRIVATE, 1, 0600));
	for (size_t i = 0; i < WAITERS; i++) {
		struct waiter *waiter = &waiters[i];
		int *pair = pairs[i];
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		if (waiter->kind == ACCEPTS) {
			must(pair[0] = socket(AF_UNIX, SOCK_STREAM, 0));
			must(bind(pair[0], (struct sockaddr *)&address, sizeof(address.sun_family)));
			must(getsockname(pair[0], (struct sockaddr *)&address, &length));
			must(listen(pair[0], 1));
		}
		must(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
		must(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
		while (waiter->kind == WRITES && send(pair[0], full, sizeof(full), MSG_DONTWAIT) > 0)
			;
		waiter->fd = waiter->kind == POLLS ? epoll(pair[0]) : pair[0];
		if (pthread_create(&threads[i], NULL, wait_in_call, waiter) != 0)
			_exit(__LINE__);
	}
	for (size_t i = 0; i < WAITERS; i++)
		while (!sleeps(&waiters[i]))
			;
	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		_exit(__LINE__);
	for (size_t i = 0; i < WAITERS; i++) {
		int ours = pairs[i][1];
		struct sembuf give = {.sem_op = 1};
		switch (waiters[i].kind) {
		case READS:
		case POLLS:
			must(write(ours, "x", 1));
			break;
		case WRITES:
			while (recv(ours, full, sizeof(full), MSG_DONTWAIT) > 0)
				;
			break;
		case ACCEPTS:
			must(connect(must(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&address, length));
			break;
		case ELSE:
			must(semop(semaphore, &give, 1));
			must(kill(getpid(), SIGUSR1));
			break;
		}
	}
	for (size_t i = 0; i < WAITERS; i++) {
		pthread_join(threads[i], NULL);
		printf("%s%s %ld", i ? ", " : "", waiters[i].name, waiters[i].result);
	}
	puts("");
	must(semctl(semaphore, 0, IPC_RMID));
	return 0;
}

/* Everything that makes it hard to say which file a descriptor means. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLOSE_RANGE_UNSHARE 2
#define CLOSE_RANGE_CLOEXEC 4

static int create(const char *name)
{
	return open(name, O_RDWR | O_CREAT, 0600);
}

static char stack[2][65536] __attribute__((aligned(16)));

static int writes_and_closes(void *fd)
{
	write((int)(long)fd, "shared", 6);
	close((int)(long)fd);
	return 0;
}

static int unshares_and_closes(void *fd)
{
	syscall(SYS_close_range, (int)(long)fd, 200, CLOSE_RANGE_UNSHARE);
	int other = create("unshared");
	write(other, "unshared", 8);
	return 0;
}

static void shared_tables(void)
{
	int fd = create("shared");
	pid_t child = clone(writes_and_closes, stack[0] + 65536, CLONE_FILES | SIGCHLD, (void *)(long)fd);
	waitpid(child, NULL, 0);
	/* The child closed it here too. */
	write(fd, "nothing", 7);
	fd = create("kept");
	child = clone(unshares_and_closes, stack[1] + 65536, CLONE_FILES | SIGCHLD, (void *)(long)fd);
	waitpid(child, NULL, 0);
	write(fd, "still open", 10);
	close(fd);
}

static void duplicates(void)
{
	int one = create("one"), two = create("two");
	for (int i = 0; i < 100; i++) {
		dup2(one, 50 + i);
		dup2(two, 50 + i);
		write(50 + i, "x", 1);
	}
	dup2(one, one);
	dup3(one, one, 0);
	dup2(999, one);
	dup2(one, -1);
	close(one);
	close(one);
	write(one, "nothing", 7);
	close(two);
	write(100, "two", 3);
	syscall(SYS_close_range, 60, 149, 0);
	write(59, "two", 3);
	syscall(SYS_close_range, 50, 59, CLOSE_RANGE_CLOEXEC);
	syscall(SYS_close_range, 9, 3, 0);
	syscall(SYS_close_range, 50, ~0U, 1 << 9);
	write(50, "two", 3);
}

static void inherited(void)
{
	int fd = create("inherited"), hidden = open("hidden", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();
		if (child == 0) {
			write(fd, "child", 5);
			write(hidden, "child", 5);
			if (i % 4 == 0)
				execl("./descriptors", "descriptors", i % 8 ? "write" : "chain", fd == 5 ? "5" : "other", NULL);
			if (i % 4 == 1)
				kill(getpid(), SIGKILL);
			if (i % 4 == 2)
				close(fd);
			_exit(i);
		}
		waitpid(child, NULL, 0);
	}
	write(fd, "parent", 6);
	close(fd);
}

/* Each starts the next by vfork and exec. */
static void chain(int left)
{
	char number[12];
	snprintf(number, sizeof number, "%d", left);
	pid_t child = vfork();
	if (child == 0) {
		execl("./nowhere", "nowhere", NULL);
		execl("./descriptors", "descriptors", "link", number, NULL);
		_exit(1);
	}
	waitpid(child, NULL, 0);
}

static void orphans(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	int fd = create("orphans");
	for (int i = 0; i < 5; i++) {
		pid_t child = fork();
		if (child == 0) {
			if (fork() == 0) {
				/* Its parent is gone when it writes. */
				while (getppid() != (pid_t)atoi(getenv("REAPER")))
					sched_yield();
				write(fd, "orphan", 6);
				_exit(7);
			}
			_exit(0);
		}
		waitpid(child, NULL, 0);
		wait(NULL);
	}
	close(fd);
}

static void no_files(void)
{
	int pipes[2], memory = memfd_create("memory", 0);
	pipe(pipes);
	write(pipes[1], "pipe", 4);
	char bytes[4];
	read(pipes[0], bytes, 4);
	ftruncate(memory, 4096);
	write(memory, "memory", 6);
	fchmod(memory, 0600);
	mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	int fd = create("mapped");
	ftruncate(fd, 8192);
	mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
	mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	dup2(fd, pipes[0]);
	write(pipes[0], "file now", 8);
	dup2(memory, fd);
	write(fd, "memory now", 10);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "write") == 0)
		return write(atoi(argv[2]), "executed", 8) != 8;
	if (argc == 3 && strcmp(argv[1], "chain") == 0) {
		chain(10);
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "link") == 0) {
		int left = atoi(argv[2]);
		create("linked");
		if (left > 0)
			chain(left - 1);
		return left;
	}
	char reaper[12];
	snprintf(reaper, sizeof reaper, "%d", getpid());
	setenv("REAPER", reaper, 1);
	shared_tables();
	duplicates();
	inherited();
	orphans();
	no_files();
	return 0;
}

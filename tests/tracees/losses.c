/* Goes where the tracer can't follow. */
#include "tracee.h"
#include <linux/io_uring.h>

int main(void)
{
	/* A traced process can't be traced by another. */
	fails(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), EPERM);
	fails(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0), EPERM);
	/* A ring that was not made is no loss. */
	struct io_uring_params params = { 0 };
	if (syscall(SYS_io_uring_setup, 0, &params) >= 0)
		_exit(__LINE__);
	must(mkdir("before", 0700));
	int ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0) {
		must(mkdir("no_io_uring", 0700));
		return 0;
	}
	/* What the ring does is no system call: not even its number needs to be a descriptor's. */
	struct io_uring_sqe *entries = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	char *queue = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	if (entries == MAP_FAILED || queue == MAP_FAILED)
		_exit(__LINE__);
	memset(entries, 0, sizeof *entries);
	entries->opcode = IORING_OP_MKDIRAT;
	entries->fd = AT_FDCWD;
	entries->addr = (unsigned long)"unseen";
	entries->len = 0700;
	*(unsigned *)(queue + params.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(queue + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	struct io_uring_rsrc_update registered = { .offset = -1U, .data = ring };
	unsigned flags = IORING_ENTER_GETEVENTS;
	int number = ring;
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_RING_FDS, &registered, 1) == 1) {
		number = registered.offset;
		flags |= IORING_ENTER_REGISTERED_RING;
	}
	must(syscall(SYS_io_uring_enter, number, 1, 1, flags, NULL, 0));
	must(access("unseen", F_OK));
	return 0;
}

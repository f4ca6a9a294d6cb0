/* Moves bytes through descriptors in every way there is. */
#include "tracee.h"
#include <sys/sendfile.h>

int main(void)
{
	char byte[64] = "0123456789";
	struct iovec two[2] = { { byte, 1 }, { byte, 2 } };
	int file = must(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
	must(syscall(SYS_write, file, byte, 10));
	must(syscall(SYS_writev, file, two, 2));
	must(syscall(SYS_pwrite64, file, byte, 20, LONG(0)));
	must(syscall(SYS_pwritev, file, two, 2, 0, 0));
	must(syscall(SYS_pwritev2, file, two, 1, 0, 0, 0));
	/* 37 written; the file is 20 bytes long. */
	must(lseek(file, 0, SEEK_SET));
	must(syscall(SYS_read, file, byte, 10));
	must(syscall(SYS_readv, file, two, 2));
	must(syscall(SYS_pread64, file, byte, 20, LONG(0)));
	must(syscall(SYS_preadv, file, two, 2, 0, 0));
	must(syscall(SYS_preadv2, file, two, 1, 0, 0, 0));
	/* 37 read. */
	int to = must(open("to", O_RDWR | O_CREAT | O_TRUNC, 0600));
	off_t from = 0;
	must(syscall(SYS_sendfile, to, file, &from, 5));
	loff_t start = 0;
	must(syscall(SYS_copy_file_range, file, &start, to, NULL, 6, 0));
	int ends[2];
	must(pipe(ends));
	start = 0;
	must(syscall(SYS_splice, file, &start, ends[1], NULL, 7, 0));
	must(syscall(SYS_splice, ends[0], NULL, to, NULL, 7, 0));
	/* Read 37 + 18, written 37 and 18. A call that fails moves nothing. */
	fails(syscall(SYS_read, file, NULL, 10), EFAULT);
	must(syscall(SYS_close, file));
	must(syscall(SYS_close, to));
	return 0;
}

/* Has the kernel move bytes to standard output, from where they can be read again and from where they can't. */
#include "tracee.h"
#include <sys/sendfile.h>

int main(int argc, char **argv)
{
	(void)argv;
	int file = must(open("file", O_RDONLY));
	must(lseek(file, 2, SEEK_SET));
	if (argc > 1) {
		loff_t from = 7;
		/* Standard output is a regular file. */
		must(syscall(SYS_copy_file_range, file, NULL, 1, NULL, 4, 0));
		must(syscall(SYS_copy_file_range, file, &from, 1, NULL, 3, 0));
		/* At the end there is nothing left. */
		must(syscall(SYS_copy_file_range, file, &from, 1, NULL, 3, 0));
		return 0;
	}
	off_t from = 7;
	must(sendfile(1, file, NULL, 4));
	must(sendfile(1, file, &from, 3));
	loff_t start = 0;
	must(splice(file, &start, 1, NULL, 5, 0));
	/* A name is not needed. */
	must(unlink("file"));
	must(splice(file, NULL, 1, NULL, 2, 0));
	/* What comes out of a pipe is gone. */
	int ends[2];
	must(pipe(ends));
	must(write(ends[1], "pipe", 4));
	must(splice(ends[0], NULL, 1, NULL, 4, 0));
	return 0;
}

/* Writes to its standard descriptors in every way there is, and where it looks as if it did. */
#include "tracee.h"

int main(void)
{
	struct iovec two[2] = { { "vec", 3 }, { "tor\n", 4 } };
	must(write(1, "out\n", 4));
	must(write(2, "err\n", 4));
	must(writev(1, two, 2));
	/* Both to the same place: the place counts. */
	must(dup2(2, 9));
	must(write(9, "nine\n", 5));
	pid_t child = must(fork());
	if (child == 0) {
		must(write(1, "child\n", 6));
		/* Redirected: this is a file's content. */
		int file = must(open("file", O_WRONLY | O_CREAT, 0600));
		must(dup2(file, 1));
		must(write(1, "hidden\n", 7));
		/* 1 to 2, as `>&2` does. */
		must(dup2(2, 1));
		must(write(1, "swapped\n", 8));
		return 0;
	}
	reap(child);
	/* Whole, however long. */
	size_t size = 3000000;
	char *big = malloc(size);
	memset(big, 'x', size);
	for (size_t done = 0; done < size;)
		done += must(write(1, big + done, size - done));
	/* Moved by the kernel. */
	int file = must(open("file", O_RDONLY));
	must(splice(file, NULL, 1, NULL, 7, 0));
	fails(write(1, NULL, 5), EFAULT);
	return 0;
}

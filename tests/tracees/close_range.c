/* Closes several descriptors with one call; marks others close-on-exec; unshares. */
#include "tracee.h"
#include <linux/close_range.h>

static int add(int number, const char *name)
{
	int fd = must(open(name, O_WRONLY | O_CREAT, 0600));
	must(dup2(fd, number));
	must(close(fd));
	must(write(number, name, strlen(name)));
	return number;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return 0;
	add(10, "a");
	add(11, "bb");
	add(12, "ccc");
	add(13, "dddd");
	fails(syscall(SYS_close_range, 12, 10, 0), EINVAL);
	fails(syscall(SYS_close_range, 10, 12, 64), EINVAL);
	must(syscall(SYS_close_range, 11, 12, 0));
	must(syscall(SYS_close_range, 10, ~0U, CLOSE_RANGE_CLOEXEC));
	must(write(10, "x", 1));
	must(execl(argv[0], argv[0], "again", NULL));
}

/* Workload 1: opens and closes a file as often as its argument says. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1;
	while (count-- > 0) {
		int fd = open("file", O_RDONLY);
		if (fd < 0)
			return 1;
		close(fd);
	}
	return 0;
}

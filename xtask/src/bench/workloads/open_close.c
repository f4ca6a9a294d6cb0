/* Workload 1: opens and closes a file as often as its argument says: ten of them in turn. Of one in a thousand it reads a byte. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char name[] = "file0", byte;
	long count = argc > 1 ? atol(argv[1]) : 1;
	for (long done = 0; done < count; done++) {
		name[4] = '0' + done % 10;
		int fd = open(name, O_RDONLY);
		if (fd < 0)
			return 1;
		if (done % 1000 == 0 && read(fd, &byte, 1) != 1)
			return 1;
		close(fd);
	}
	return 0;
}

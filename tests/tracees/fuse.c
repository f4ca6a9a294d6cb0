/* Becomes the server of a file system, or could: from here on nothing may wait for it. */
#include "tracee.h"

int main(void)
{
	must(open("before", O_WRONLY | O_CREAT, 0600));
	open("/dev/fuse", O_RDWR);
	must(open("after", O_WRONLY | O_CREAT, 0600));
	must(open("sure", O_WRONLY | O_CREAT | O_EXCL, 0600));
	return 0;
}

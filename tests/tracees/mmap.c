/* Maps a file shared and writable; other maps don't matter. */
#include "tracee.h"

static int map(size_t length, int prot, int flags, int fd, off_t offset)
{
#ifdef __i386__
	return syscall(SYS_mmap2, 0, length, prot, flags, fd, offset / 4096) == -1 ? -1 : 0;
#else
	return syscall(SYS_mmap, 0, length, prot, flags, fd, offset) == -1 ? -1 : 0;
#endif
}

int main(void)
{
	int file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(ftruncate(file, 8192));
	must(map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096));
	must(map(4096, PROT_READ, MAP_SHARED, file, 0));
	must(map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
	must(map(4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	return 0;
}

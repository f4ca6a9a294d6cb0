/* Maps a file shared and writable; other maps don't matter. */
#include "tracee.h"

int main(void)
{
	int file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(ftruncate(file, 8192));
	must(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096));
	must(syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED, file, 0));
	must(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0));
	must(syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	return 0;
}

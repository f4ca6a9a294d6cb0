/* x32 calls from 64-bit code, with data below 4 GiB. Kernels that lack them answer ENOSYS. */
#include "tracee.h"

#define X32(number) (0x40000000 | (number))

int main(void)
{
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	strcpy(low, "file");
	strcpy(low + 32, "none");
	/* A native call's number, and one of its own: execve. */
	syscall(X32(SYS_open), low, O_WRONLY | O_CREAT, 0600);
	unsigned *words = (unsigned *)(low + 64);
	words[0] = (unsigned long)low;
	words[1] = 0;
	syscall(X32(520), low + 32, words, NULL);
	/* Without the bit: old kernels with x32 take it for the same, new ones for no call. */
	syscall(520, low + 32, words, NULL);
	/* No call at all. */
	syscall(-1);
	return 0;
}

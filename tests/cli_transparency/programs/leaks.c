/* Loses memory; its sanitizer says so. */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
	volatile char *lost = malloc(10);
	lost[0] = 1;
	lost = NULL;
	puts("leaks");
	fflush(stdout);
	return 0;
}

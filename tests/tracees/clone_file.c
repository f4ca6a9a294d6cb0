/* Clones file contents; file systems that can't say so. */
#include "tracee.h"
#include <linux/fs.h>

int main(void)
{
	int from = must(open("from", O_RDWR | O_CREAT, 0600));
	int to = must(open("to", O_RDWR | O_CREAT, 0600));
	must(write(from, "content", 7));
	syscall(SYS_ioctl, to, FICLONE, from);
	struct file_clone_range range = { .src_fd = from };
	syscall(SYS_ioctl, to, FICLONERANGE, &range);
	return 0;
}

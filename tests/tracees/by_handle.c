/* Opens a file by its handle, which only root may. */
#include "tracee.h"

int main(void)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} by = { .handle.handle_bytes = MAX_HANDLE_SZ };
	int mount;
	must(close(must(creat("file", 0600))));
	int dir = must(open(".", O_RDONLY | O_DIRECTORY));
	must(name_to_handle_at(AT_FDCWD, "file", &by.handle, &mount, 0));
	int file = syscall(SYS_open_by_handle_at, dir, &by.handle, O_WRONLY | O_APPEND);
	if (file >= 0)
		must(write(file, "abc", 3));
	return 0;
}

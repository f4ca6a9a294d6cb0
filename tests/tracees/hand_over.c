/* Connects to the unix socket that its first argument names; listens there itself before, with `self`. With a third
 * argument it is the one who listens, and who calls itself so. */
#include "tracee.h"

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strcpy(address.sun_path, argv[1]);
	int server = must(socket(AF_UNIX, SOCK_STREAM, 0));
	if (argc > 2) {
		must(bind(server, (struct sockaddr *)&address, sizeof address));
		must(listen(server, 1));
	}
	if (argc > 3) {
		must(prctl(PR_SET_NAME, argv[3]));
		must(chmod(argv[1], 0777));
		must(write(1, "ready\n", 6));
		must(read(0, argv[1], 1) + 1);
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		int client = must(socket(AF_UNIX, SOCK_STREAM, 0));
		must(connect(client, (struct sockaddr *)&address, sizeof address));
		must(close(client));
	}
	return 0;
}

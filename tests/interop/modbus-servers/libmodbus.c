/* A Modbus server of libmodbus alone: register words from a file, over TCP or RTU.

   libmodbus tcp PORT FILE            libmodbus rtu DEVICE BAUD UNIT FILE

   FILE has lines "FUNCTION ADDRESS WORD" in decimal. Prints "ready" when it can be asked. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    return 1;
}

int main(int argc, char **argv) {
    int tcp = argc == 4 && !strcmp(argv[1], "tcp");
    if (!tcp && argc != 6) return 2;
    modbus_t *server = tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2]))
                           : modbus_new_rtu(argv[2], atoi(argv[3]), 'N', 8, 1);
    modbus_mapping_t *words = modbus_mapping_new(0, 0, 65536, 65536);
    FILE *file = fopen(argv[argc - 1], "r");
    int function, address, word, listener = -1;
    if (!server || !words || !file) return fail("start");
    while (fscanf(file, "%d %d %d", &function, &address, &word) == 3)
        (function == 3 ? words->tab_registers : words->tab_input_registers)[address] = word;
    fclose(file);
    if (tcp) {
        if ((listener = modbus_tcp_listen(server, 1)) < 0) return fail("listen");
    } else if (modbus_set_slave(server, atoi(argv[4])) || modbus_connect(server)) {
        return fail("open");
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
        if (tcp && modbus_tcp_accept(server, &listener) < 0) return fail("accept");
        for (;;) {
            int size = modbus_receive(server, request);
            if (size > 0) modbus_reply(server, request, size, words);
            else if (size < 0 && tcp) break;
        }
        modbus_close(server);
    }
}

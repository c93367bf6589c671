/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Runs a fuzzer without libFuzzer, for "make check": first the corpus, then
 * random mutations of it, for a bounded time.  The seed is fixed, so that what
 * is found once is found again.
 *
 * Speaks TAP.  A mutation that fails is left in the file CRASH_FILE. */

#include <config.h>

#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SEED 0x9e3779b97f4a7c15u
#define SECONDS 3
#define MAX_MUTATIONS 10000000
#define MAX_INPUTS 256
#define MAX_SIZE 4096           /* Of an input, in octets. */
#define CRASH_FILE "/tmp/turbotap-fuzz-crash"

struct input {
    size_t size;
    uint8_t data[MAX_SIZE];
};

static struct input corpus[MAX_INPUTS];
static size_t n_inputs;
static struct input current;

/* Leaves 'current' behind when the process is about to die. */
static void
crashed(int signum)
{
    int fd = open(CRASH_FILE, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    static const char message[] = "not ok 2 - see " CRASH_FILE "\n";
    ssize_t n;

    n = write(fd, current.data, current.size);
    n += write(STDOUT_FILENO, message, sizeof message - 1);
    (void) n;
    signal(signum, SIG_DFL);
    raise(signum);
}

static void
read_corpus(const char *dir_name)
{
    DIR *dir = opendir(dir_name);
    struct dirent *entry;

    while (dir && n_inputs < MAX_INPUTS && (entry = readdir(dir))) {
        char path[4096];
        FILE *stream;

        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", dir_name, entry->d_name);
        stream = fopen(path, "rb");
        if (stream) {
            struct input *input = &corpus[n_inputs++];

            input->size = fread(input->data, 1, MAX_SIZE, stream);
            fclose(stream);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* Returns a pseudo-random number (xorshift64*) below 'n'. */
static size_t
random_below(size_t n)
{
    static uint64_t x = SEED;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    return (x * 0x2545f4914f6cdd1du >> 32) % n;
}

/* Changes 'input', of which one octet at least must be left, a little. */
static void
mutate(struct input *input)
{
    static const uint8_t interesting[] = {
        0, 1, 2, 4, 5, 6, 14, 16, 17, 20, 34, 40, 54, 60, 0x45, 0x7f, 0x80,
        0x81, 0x86, 0x88, 0xa8, 0xdd, 0xff,
    };
    size_t at = random_below(input->size);
    size_t n;

    switch (random_below(6)) {
    case 0:
        input->data[at] ^= 1 << random_below(8);
        break;
    case 1:
        input->data[at] = interesting[random_below(sizeof interesting)];
        break;
    case 2:
        input->data[at] = random_below(256);
        break;
    case 3:                     /* Near the front is where it matters. */
        input->data[random_below(input->size < 80 ? input->size : 80)]
            = interesting[random_below(sizeof interesting)];
        break;
    case 4:
        input->size = 1 + random_below(input->size);
        break;
    case 5:
        n = random_below(64);
        if (input->size + n <= MAX_SIZE) {
            memmove(&input->data[at + n], &input->data[at], input->size - at);
            input->size += n;
        }
        break;
    }
}

int
main(void)
{
    time_t end = time(NULL) + SECONDS;
    unsigned long n;

    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("1..2");
    read_corpus(CORPUS);
    if (!n_inputs) {
        puts("not ok 1 - no corpus in " CORPUS);
        return EXIT_FAILURE;
    }
    signal(SIGABRT, crashed);
    signal(SIGSEGV, crashed);
    for (size_t i = 0; i < n_inputs; i++) {
        current = corpus[i];
        LLVMFuzzerTestOneInput(current.data, current.size);
    }
    printf("ok 1 - corpus of %zu inputs\n", n_inputs);

    for (n = 0; n < MAX_MUTATIONS && (n % 1024 || time(NULL) < end); n++) {
        current = corpus[random_below(n_inputs)];
        if (!current.size) {
            continue;
        }
        for (size_t i = 1 + random_below(6); i; i--) {
            mutate(&current);
        }
        LLVMFuzzerTestOneInput(current.data, current.size);
    }
    printf("ok 2 - %lu mutations\n", n);
    return EXIT_SUCCESS;
}

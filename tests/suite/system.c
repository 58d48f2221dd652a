// Loaded before the C library: answers as systems do that are not the one at hand. TNET_TEST_FLOCK, TNET_TEST_FSYNC
// (of a folder) and TNET_TEST_FSYNC_FILE are the number of the error that such a call gets; TNET_TEST_THREADS is how
// many threads may be started.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#define EXPORT __attribute__((visibility("default")))

static int number(const char *variable) {
    const char *text = getenv(variable);
    return text ? atoi(text) : 0;
}

EXPORT int flock(int file, int operation) {
    int error = number("TNET_TEST_FLOCK");
    const int unlock = 8;
    if (error && !(operation & unlock)) {
        errno = error;
        return -1;
    }
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(file, operation);
}

EXPORT int fsync(int file) {
    struct stat status;
    int is_folder = fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
    int error = number(is_folder ? "TNET_TEST_FSYNC" : "TNET_TEST_FSYNC_FILE");
    if (error) {
        errno = error;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}

// The threads that have ended count no more, as with a limit of the system. The wrapper's memory is freed by the
// thread.
static int running;

struct start {
    void *(*routine)(void *);
    void *argument;
};

static void *counted(void *given) {
    struct start start = *(struct start *)given;
    free(given);
    void *result = start.routine(start.argument);
    __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
    return result;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument) {
    typedef int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    create next = (create)dlsym(RTLD_NEXT, "pthread_create");
    const char *most = getenv("TNET_TEST_THREADS");
    if (!most) return next(thread, attributes, routine, argument);
    if (__atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST) > atoi(most)) {
        __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
        return EAGAIN;
    }
    struct start *start = malloc(sizeof *start);
    start->routine = routine;
    start->argument = argument;
    return next(thread, attributes, counted, start);
}

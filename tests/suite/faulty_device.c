// A Vulkan layer that makes a device faulty. After TNET_TEST_SUBMITS submissions every further one, and every wait,
// answers VK_ERROR_DEVICE_LOST, as a driver does whose card was reset or pulled out. With TNET_TEST_DISCRETE the device
// says that it is a discrete GPU, and with TNET_TEST_IDLE it runs no kernel but says that it did. With TNET_TEST_COUNT
// no fault is added: when the process exits, the file of that name gets a line with the numbers of kernel launches, of
// submissions, of copies into buffers and of fills of buffers, by all threads on all devices. Written without Vulkan's
// headers, which need not be installed; names and numbers are theirs.

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { LOADER_INSTANCE_CREATE_INFO = 47, LOADER_DEVICE_CREATE_INFO = 48, DEVICE_LOST = -4, DISCRETE_GPU = 2 };

typedef void (*function)(void);
typedef function (*get_proc_addr)(void *, const char *);
typedef int32_t (*create_instance)(const void *, const void *, void **);
typedef int32_t (*create_device)(void *, const void *, const void *, void **);
typedef int32_t (*queue_submit)(void *, uint32_t, const void *, uint64_t);
typedef void (*cmd_dispatch)(void *, uint32_t, uint32_t, uint32_t);
typedef void (*cmd_dispatch_base)(void *, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);
typedef void (*cmd_dispatch_indirect)(void *, uint64_t, uint64_t);
typedef void (*cmd_copy_buffer)(void *, uint64_t, uint64_t, uint32_t, const void *);
typedef void (*cmd_copy_buffer2)(void *, const void *);
typedef void (*cmd_fill_buffer)(void *, uint64_t, uint64_t, uint64_t, uint32_t);
typedef void (*cmd_update_buffer)(void *, uint64_t, uint64_t, uint64_t, const void *);
typedef int32_t (*wait_for_fences)(void *, uint32_t, const void *, uint32_t, uint64_t);
typedef int32_t (*wait_semaphores)(void *, const void *, uint64_t);
typedef void (*properties)(void *, void *);

// VkLayerInstanceLink and VkLayerDeviceLink: the second function differs, and only a device's is used.
struct link {
    struct link *next;
    get_proc_addr instance_proc_addr;
    get_proc_addr device_proc_addr;
};

struct create_info {
    int32_t type;
    struct create_info *next;
    int32_t function;
    struct link *link;
};

struct negotiation {
    int32_t type;
    struct negotiation *next;
    uint32_t version;
    get_proc_addr instance_proc_addr;
    get_proc_addr device_proc_addr;
    get_proc_addr physical_device_proc_addr;
};

static get_proc_addr next_instance, next_device;
static queue_submit next_submit, next_submit2;
static cmd_dispatch next_dispatch;
static cmd_dispatch_base next_dispatch_base;
static cmd_dispatch_indirect next_dispatch_indirect;
static cmd_copy_buffer next_copy;
static cmd_copy_buffer2 next_copy2;
static cmd_fill_buffer next_fill;
static cmd_update_buffer next_update;
static wait_for_fences next_wait;
static wait_semaphores next_wait_semaphores;
static properties next_properties, next_properties2;
static int left;
static uint64_t launches, submissions, copies, fills;

static struct create_info *of_loader(const void *info, int32_t type) {
    struct create_info *at = ((const struct create_info *)info)->next;
    while (at && !(at->type == type && at->function == 0)) at = at->next;
    return at;
}

static int lost(void) { return __atomic_load_n(&left, __ATOMIC_SEQ_CST) < 0; }

static void add(uint64_t *counter, uint64_t count) { __atomic_add_fetch(counter, count, __ATOMIC_SEQ_CST); }

static int32_t submit(void *queue, uint32_t count, const void *submits, uint64_t fence) {
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) < 0) return DEVICE_LOST;
    add(&submissions, 1);
    return next_submit(queue, count, submits, fence);
}

static int32_t submit2(void *queue, uint32_t count, const void *submits, uint64_t fence) {
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) < 0) return DEVICE_LOST;
    add(&submissions, 1);
    return next_submit2(queue, count, submits, fence);
}

static int32_t wait(void *device, uint32_t count, const void *fences, uint32_t all, uint64_t time) {
    return lost() ? DEVICE_LOST : next_wait(device, count, fences, all, time);
}

static int32_t wait_for_semaphores(void *device, const void *info, uint64_t time) {
    return lost() ? DEVICE_LOST : next_wait_semaphores(device, info, time);
}

static int idle(void) { return getenv("TNET_TEST_IDLE") != NULL; }

static void dispatch(void *commands, uint32_t x, uint32_t y, uint32_t z) {
    add(&launches, 1);
    if (!idle()) next_dispatch(commands, x, y, z);
}

static void dispatch_base(
    void *commands, uint32_t from_x, uint32_t from_y, uint32_t from_z, uint32_t x, uint32_t y, uint32_t z
) {
    add(&launches, 1);
    if (!idle()) next_dispatch_base(commands, from_x, from_y, from_z, x, y, z);
}

static void dispatch_indirect(void *commands, uint64_t buffer, uint64_t offset) {
    add(&launches, 1);
    if (!idle()) next_dispatch_indirect(commands, buffer, offset);
}

static void copy(void *commands, uint64_t from, uint64_t to, uint32_t regions, const void *described) {
    add(&copies, regions);
    next_copy(commands, from, to, regions, described);
}

// VkCopyBufferInfo2: a type, a link and two buffers, each in eight bytes, then the number of regions.
static void copy2(void *commands, const void *info) {
    uint32_t regions;
    memcpy(&regions, (const char *)info + 32, sizeof regions);
    add(&copies, regions);
    next_copy2(commands, info);
}

static void fill(void *commands, uint64_t buffer, uint64_t offset, uint64_t bytes, uint32_t number) {
    add(&fills, 1);
    next_fill(commands, buffer, offset, bytes, number);
}

static void update(void *commands, uint64_t buffer, uint64_t offset, uint64_t bytes, const void *numbers) {
    add(&copies, 1);
    next_update(commands, buffer, offset, bytes, numbers);
}

// At exit, because a program need not destroy its devices. A loader that unloads the layer with its last instance runs
// this too, and starts the counters anew when it loads the layer again: the file gets a line each time.
__attribute__((destructor)) static void write_counts(void) {
    const char *path = getenv("TNET_TEST_COUNT");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    const uint64_t *const counters[] = {&launches, &submissions, &copies, &fills};
    for (int i = 0; i < 4; i++) {
        const unsigned long long count = __atomic_load_n(counters[i], __ATOMIC_SEQ_CST);
        fprintf(file, i < 3 ? "%llu " : "%llu\n", count);
    }
    fclose(file);
}

// VkPhysicalDeviceProperties: four numbers, the kind, the name.
static void disguise(char *of_device) {
    const int32_t kind = DISCRETE_GPU;
    memcpy(of_device + 16, &kind, sizeof kind);
    strcpy(of_device + 20, "Test GPU");
}

static void get_properties(void *physical, void *written) {
    next_properties(physical, written);
    disguise(written);
}

// VkPhysicalDeviceProperties2: a type and a link, each in eight bytes, then the same.
static void get_properties2(void *physical, void *written) {
    next_properties2(physical, written);
    disguise((char *)written + 16);
}

static int32_t instance(const void *info, const void *allocator, void **made) {
    struct create_info *loader = of_loader(info, LOADER_INSTANCE_CREATE_INFO);
    next_instance = loader->link->instance_proc_addr;
    loader->link = loader->link->next;
    return ((create_instance)next_instance(NULL, "vkCreateInstance"))(info, allocator, made);
}

static int32_t device(void *physical, const void *info, const void *allocator, void **made) {
    struct create_info *loader = of_loader(info, LOADER_DEVICE_CREATE_INFO);
    get_proc_addr of_instance = loader->link->instance_proc_addr;
    next_device = loader->link->device_proc_addr;
    loader->link = loader->link->next;
    const char *submits = getenv("TNET_TEST_SUBMITS");
    left = submits ? atoi(submits) : INT_MAX;
    create_device create = (create_device)of_instance(NULL, "vkCreateDevice");
    return create(physical, info, allocator, made);
}

static function device_proc_addr(void *device, const char *name) {
    function next = next_device(device, name);
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (function)device_proc_addr;
    if (next && !strcmp(name, "vkQueueSubmit")) {
        next_submit = (queue_submit)next;
        return (function)submit;
    }
    if (next && !strcmp(name, "vkWaitForFences")) {
        next_wait = (wait_for_fences)next;
        return (function)wait;
    }
    if (next && !strncmp(name, "vkWaitSemaphores", 16)) {
        next_wait_semaphores = (wait_semaphores)next;
        return (function)wait_for_semaphores;
    }
    if (next && !strncmp(name, "vkQueueSubmit2", 14)) {
        next_submit2 = (queue_submit)next;
        return (function)submit2;
    }
    if (next && !strcmp(name, "vkCmdDispatch")) {
        next_dispatch = (cmd_dispatch)next;
        return (function)dispatch;
    }
    if (next && !strncmp(name, "vkCmdDispatchBase", 17)) {
        next_dispatch_base = (cmd_dispatch_base)next;
        return (function)dispatch_base;
    }
    if (next && !strcmp(name, "vkCmdDispatchIndirect")) {
        next_dispatch_indirect = (cmd_dispatch_indirect)next;
        return (function)dispatch_indirect;
    }
    if (next && !strcmp(name, "vkCmdCopyBuffer")) {
        next_copy = (cmd_copy_buffer)next;
        return (function)copy;
    }
    if (next && (!strcmp(name, "vkCmdCopyBuffer2") || !strcmp(name, "vkCmdCopyBuffer2KHR"))) {
        next_copy2 = (cmd_copy_buffer2)next;
        return (function)copy2;
    }
    if (next && !strcmp(name, "vkCmdFillBuffer")) {
        next_fill = (cmd_fill_buffer)next;
        return (function)fill;
    }
    if (next && !strcmp(name, "vkCmdUpdateBuffer")) {
        next_update = (cmd_update_buffer)next;
        return (function)update;
    }
    return next;
}

static function instance_proc_addr(void *of, const char *name) {
    if (!strcmp(name, "vkGetInstanceProcAddr")) return (function)instance_proc_addr;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (function)device_proc_addr;
    if (!strcmp(name, "vkCreateInstance")) return (function)instance;
    if (!strcmp(name, "vkCreateDevice")) return (function)device;
    function next = next_instance ? next_instance(of, name) : NULL;
    if (!next || !getenv("TNET_TEST_DISCRETE")) return next;
    if (!strcmp(name, "vkGetPhysicalDeviceProperties")) {
        next_properties = (properties)next;
        return (function)get_properties;
    }
    if (!strncmp(name, "vkGetPhysicalDeviceProperties2", 30)) {
        next_properties2 = (properties)next;
        return (function)get_properties2;
    }
    return next;
}

EXPORT int32_t vkNegotiateLoaderLayerInterfaceVersion(struct negotiation *asked) {
    asked->version = 2;
    asked->instance_proc_addr = instance_proc_addr;
    asked->device_proc_addr = device_proc_addr;
    asked->physical_device_proc_addr = NULL;
    return 0;
}

/*
 * What gcc's unwinder misses in a static musl program. Debian's libgcc_eh is built for glibc; two of its
 * assumptions have to be made true, or a caught panic ends the process:
 *
 * - It asks `_dl_find_object` for the unwind tables of an address (glibc manual, "Dynamic Linker
 *   Introspection"), which musl lacks. A static program is one object, so that the answer is its own
 *   PT_GNU_EH_FRAME segment, for every address in it.
 * - It refers to the pthread functions weakly, and weak references fetch nothing from an archive. Strong ones
 *   here bring them in.
 *
 * Only tools/static.sh uses this, and only where the compiler is Debian's.
 */
#include <link.h>
#include <pthread.h>
#include <stdint.h>

void *const unwinder_needs[] __attribute__((used)) = {
    (void *)pthread_getspecific, (void *)pthread_key_create,   (void *)pthread_mutex_lock,
    (void *)pthread_mutex_unlock, (void *)pthread_once,        (void *)pthread_setspecific,
};

/* As in glibc's <bits/dl_find_object.h> for x86_64 and aarch64; only the fields that the unwinder reads matter. */
struct found {
    unsigned long long flags;
    void *map_start;
    void *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};

/* Set by the linker to the first byte of the loaded image. */
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

int _dl_find_object(void *address, struct found *result) {
    uintptr_t start = (uintptr_t)&__ehdr_start, end = start, tables = 0;
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *)(start + __ehdr_start.e_phoff);
    for (int index = 0; index < __ehdr_start.e_phnum; index++) {
        uintptr_t at = headers[index].p_vaddr; /* not position-independent: no base to add */
        if (headers[index].p_type == PT_LOAD && at + headers[index].p_memsz > end)
            end = at + headers[index].p_memsz;
        if (headers[index].p_type == PT_GNU_EH_FRAME)
            tables = at;
    }
    if (tables == 0 || (uintptr_t)address < start || (uintptr_t)address >= end)
        return -1;
    result->map_start = (void *)start;
    result->map_end = (void *)end;
    result->eh_frame = (void *)tables;
    return 0;
}

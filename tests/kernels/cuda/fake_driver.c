/* As much of libcuda.so.1 as the tests look at: one device, one kernel, the last launch kept. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int fake_capability = 90, fake_status = 0, fake_depth = 0, fake_allowed_shared = 0;
struct {
    unsigned size[6], shared_bytes;
    void* stream;
    int* attributes;
    unsigned attribute_count;
} fake_launch;
int fake_attribute[2];
int64_t fake_record;

int cuInit(unsigned flags) {
    return flags;
}
int cuDriverGetVersion(int* version) {
    return *version = 13000, 0;
}
int cuDeviceGet(int* device, int index) {
    return *device = index, index == 0 ? 0 : 101;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = attribute == 75   ? fake_capability / 10
             : attribute == 76 ? fake_capability % 10
                               : 232448;
    return device;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
    return *context = "context", device;
}
int cuCtxPushCurrent_v2(void* context) {
    return ++fake_depth, context == NULL;
}
int cuCtxPopCurrent_v2(void** context) {
    return --fake_depth, *context = NULL, 0;
}
int cuModuleLoadData(void** module, const char* cubin) {
    return *module = "module", memcmp(cubin, "\177ELF", 4) == 0 ? fake_status : 200;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    return *function = module, strstr(name, "largest") != NULL ? 0 : 500;
}
int cuFuncGetAttribute(int* value, int attribute, void* function) {
    return *value = 1000 * attribute, function == NULL;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    return fake_allowed_shared = value, attribute != 8 || function == NULL;
}
int cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* nbytes) {
    return *offset = index, *nbytes = 32, function == NULL;
}
int cuLaunchKernelEx(const void* config, void* function, void** arguments, void** extra) {
    memcpy(&fake_launch, config, sizeof(fake_launch));
    fake_attribute[0] = fake_launch.attributes[0];
    fake_attribute[1] = fake_launch.attributes[2];
    memcpy(&fake_record, (char*)arguments[0] + 24, 8);
    return function == NULL || extra != NULL || fake_depth != 1 ? 1 : fake_status;
}
int cuTensorMapEncodeTiled(uint64_t* map, int type, unsigned rank, void* begin, uint64_t* sizes,
                           uint64_t* pitches, unsigned* box, unsigned* strides, int interleave,
                           int swizzle, int promotion, int beyond) {
    const uint64_t kept[16] = {
        type,   rank,   (uint64_t)begin, sizes[0],   sizes[1],   sizes[2],   pitches[0], pitches[1],
        box[0], box[1], box[2],          strides[0], strides[1], strides[2], swizzle,    promotion};
    memcpy(map, kept, sizeof(kept));
    return (uint64_t)map % 64 != 0 || interleave != 0 || beyond != 0;
}
int cuStreamWaitValue32_v2(void* stream, uint64_t at, unsigned value, unsigned flags) {
    return stream == NULL || at != 4096 || value != 7 || flags != 0;
}
int cuStreamWriteValue32_v2(void* stream, uint64_t at, unsigned value, unsigned flags) {
    return stream == NULL || at != 4096 || value != 8 || flags != 0;
}
int cuMemHostRegister_v2(void* address, size_t nbytes, unsigned flags) {
    return address == (void*)4096 && nbytes == 8192 && flags == 3 ? 0 : 712;
}
int cuMemHostUnregister(void* address) {
    return address != (void*)4096;
}
int cuMemHostGetDevicePointer_v2(void** found, void* address, unsigned flags) {
    return *found = (char*)address + 1, (int)flags;
}
int cuGetErrorName(int status, const char** name) {
    *name = status == 2     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : status == 712 ? "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"
                            : "CUDA_ERROR_OTHER";
    return 0;
}
int cuGetErrorString(int status, const char** text) {
    return *text = status == 2 ? "out of memory" : "something else", 0;
}

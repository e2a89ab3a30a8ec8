package dev.qat.cuda;

import static jcuda.driver.JCudaDriver.*;

import dev.qat.tensor.Fail;
import dev.qat.tensor.Memory.Slab;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import jcuda.Pointer;
import jcuda.cudaDataType;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUevent;
import jcuda.driver.CUfunction;
import jcuda.driver.CUfunction_attribute;
import jcuda.driver.CUgraph;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.CUstream_flags;
import jcuda.jcublas.JCublas2;
import jcuda.jcublas.cublasComputeType;
import jcuda.jcublas.cublasGemmAlgo;
import jcuda.jcublas.cublasHandle;
import jcuda.jcublas.cublasOperation;
import jcuda.jcublas.cublasStatus;
import jcuda.nvrtc.JNvrtc;
import jcuda.nvrtc.nvrtcProgram;
import jcuda.nvrtc.nvrtcResult;
import jcuda.runtime.cudaStream_t;

/**
 * A {@link Device} through JCuda's driver API, cuBLAS and NVRTC; the only file that imports {@code jcuda}.
 *
 * <p>Every call is checked, and an error says which kernel, on which blocks, with which arguments. A kernel that breaks
 * while it runs is noticed only at the next wait: with {@code QAT_CUDA_SYNC=1} every launch is waited for, so that the
 * error names the right one.
 */
public final class JCudaDevice implements Device {
    private static final int MAJOR = 12, OLDEST_CAPABILITY = 8, MAX_ARGS = 64, PLAIN_SHARED = 48 << 10;
    private static final int NO_REDUCED_PRECISION = 16;        // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
    private static final int FIRST_CAPTURE_ERROR = 900, LAST_CAPTURE_ERROR = 908;
    private static final String INSTALL = "Use the image nvidia/cuda:12.6 (runtime), install the CUDA 12 libraries, or build "
        + "with -Pcuda-redist, which brings them; backend: cpu needs none.";

    private final CUdevice device = new CUdevice();
    private final CUcontext context = new CUcontext();
    private final CUstream[] streams = new CUstream[Lane.values().length];
    private final cublasHandle cublas = new cublasHandle();
    private final Properties properties;
    private final Kernels kernels;
    private final boolean waitAlways = "1".equals(System.getenv("QAT_CUDA_SYNC"));

    private final Map<String, CUmodule> modules = new HashMap<>();
    private final Map<String, Map<String, Kernel>> plain = new HashMap<>();      // by file, by function
    private final Map<List<String>, Kernel> defined = new HashMap<>();           // by file, function and defines
    private final Map<Long, Slab> slabs = new LinkedHashMap<>(), pins = new LinkedHashMap<>();

    // One launch's arguments, the pointers to them, and a product's two factors: memory that every call uses again.
    private final Arena arena = Arena.ofShared();
    private final MemorySegment slots = arena.allocate(8L * MAX_ARGS, 8), factors = arena.allocate(8, 4);
    private final Pointer parameters, alpha = new Address(factors.address()), beta = new Address(factors.address() + 4);
    private Kernel lastKernel;
    private Blocks lastBlocks;

    /** Opens the first device, with the user's cache of compiled kernels. */
    public static JCudaDevice open() {
        return open(0, Kernels.cache());
    }

    /** Opens a device, with a folder for compiled kernels. */
    public static JCudaDevice open(int ordinal, Path cache) {
        int[] n = new int[2];
        int started = touch("NVIDIA's driver", "libcuda.so.1",
            "Install NVIDIA's driver, version 525 or newer, and in a container pass the device through (--gpus all); "
            + "backend: cpu needs none.", () -> {
                setExceptionsEnabled(false);
                cuDriverGetVersion(n);
                return cuInit(0);
            });
        if (n[0] < 1000 * MAJOR) throw Fail.device("NVIDIA's driver (libcuda.so.1) speaks CUDA %d.%d and CUDA 12.0 is needed: "
            + "install driver 525 or newer, or use backend: cpu.", n[0] / 1000, n[0] % 1000 / 10);
        if (started == 0) check(cuDeviceGetCount(n), "cuDeviceGetCount");
        if (started == CUresult.CUDA_ERROR_NO_DEVICE || started == 0 && n[0] == 0)
            throw Fail.device("No CUDA device: NVIDIA's driver (libcuda.so.1) is here and sees none. Look at nvidia-smi and "
                + "CUDA_VISIBLE_DEVICES, or use backend: cpu.");
        check(started, "cuInit");
        if (ordinal < 0 || ordinal >= n[0]) throw Fail.device("CUDA device %d was asked for and there are %d, counted from 0.", ordinal, n[0]);
        Redist.load();
        touch("cuBLAS", "libcublas.so.12", INSTALL, () -> {
            JCublas2.setExceptionsEnabled(false);
            return 0;
        });
        touch("NVRTC", "libnvrtc.so.12", INSTALL, () -> {
            JNvrtc.setExceptionsEnabled(false);
            return JNvrtc.nvrtcVersion(n, new int[1]);
        });
        return new JCudaDevice(ordinal, cache);
    }

    /** The first call into a library: where it cannot be loaded, one sentence says which one and what to install. */
    private static int touch(String what, String library, String install, java.util.function.IntSupplier call) {
        try {
            return call.getAsInt();
        } catch (LinkageError e) {
            String said = e.getMessage() == null ? "" : e.getMessage();
            boolean missing = said.contains(library + ": cannot open shared object file") || e instanceof NoClassDefFoundError;
            throw Fail.device("%s (%s) %s. %s", what, library, missing ? "was not found" : "could not be loaded (" + said.strip().lines()
                .filter(l -> !l.isBlank()).findFirst().orElse("").strip() + ")", install);
        }
    }

    private JCudaDevice(int ordinal, Path cache) {
        check(cuDeviceGet(device, ordinal), "cuDeviceGet");
        int major = attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
        if (major < OLDEST_CAPABILITY) throw Fail.device("CUDA device %d has compute capability %d.x and 8.0 is needed (bfloat16 "
            + "tensor cores): use an A100 or newer, or backend: cpu.", ordinal, major);
        check(cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain");
        enter();
        for (Lane lane : Lane.values()) {
            streams[lane.ordinal()] = new CUstream();
            check(cuStreamCreate(stream(lane), CUstream_flags.CU_STREAM_NON_BLOCKING), "cuStreamCreate");
        }
        MemorySegment pointers = arena.allocate(8L * MAX_ARGS, 8);
        for (int i = 0; i < MAX_ARGS; i++) pointers.setAtIndex(ValueLayout.JAVA_LONG, i, slots.address() + 8L * i);
        parameters = new Address(pointers.address());
        checkBlas(JCublas2.cublasCreate(cublas), "cublasCreate");
        properties = inspect();
        checkBlas(JCublas2.cublasSetMathMode(cublas, NO_REDUCED_PRECISION), "cublasSetMathMode");
        checkBlas(JCublas2.cublasSetStream(cublas, new cudaStream_t(stream(Lane.COMPUTE))), "cublasSetStream");
        // After the stream, which takes a workspace away again; a fixed one is also what makes products capturable.
        checkBlas(JCublas2.cublasSetWorkspace(cublas, new DeviceAddress(alloc("cuBLAS workspace", WORKSPACE)), WORKSPACE), "cublasSetWorkspace");
        kernels = new Kernels(cache, nvrtc(10 * properties.major() + properties.minor()));
    }

    private Properties inspect() {
        byte[] name = new byte[256];
        long[] total = new long[1];
        int[] driver = new int[1], cublasVersion = new int[1];
        check(cuDeviceGetName(name, name.length, device), "cuDeviceGetName");
        check(cuDeviceTotalMem(total, device), "cuDeviceTotalMem");
        check(cuDriverGetVersion(driver), "cuDriverGetVersion");
        checkBlas(JCublas2.cublasGetVersion(cublas, cublasVersion), "cublasGetVersion");
        return new Properties(new String(name, StandardCharsets.UTF_8).trim(),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
            attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
            total[0], driver[0], cublasVersion[0], nvrtc(0).version);
    }

    private int attribute(int which) {
        int[] v = new int[1];
        return cuDeviceGetAttribute(v, which, device) == 0 ? v[0] : 0;
    }

    /** A context belongs to a thread: every call makes sure that its thread has this device's. */
    private void enter() {
        check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    }

    private CUstream stream(Lane lane) {
        return streams[lane.ordinal()];
    }

    @Override
    public Properties properties() {
        return properties;
    }

    // ---- memory ------------------------------------------------------------------------------------------------------

    @Override
    public Room room() {
        enter();
        long[] free = new long[1], total = new long[1];
        check(cuMemGetInfo(free, total), "cuMemGetInfo");
        return new Room(free[0], total[0]);
    }

    @Override
    public synchronized long alloc(String name, long bytes) {
        Fail.unless(bytes > 0, "%s wants %d bytes of device memory", name, bytes);
        enter();
        DeviceAddress p = new DeviceAddress();
        int code = cuMemAlloc(p, bytes);
        if (code == CUresult.CUDA_ERROR_OUT_OF_MEMORY) throw full(name, bytes);
        if (code != 0) throw failed(code, "allocating %,d bytes for %s".formatted(bytes, name));
        slabs.put(p.value(), new Slab(name, p.value(), bytes));
        return p.value();
    }

    private Fail full(String name, long bytes) {
        Room room = room();
        String table = slabs.values().stream().sorted(Comparator.comparingLong(Slab::bytes).reversed())
            .map(s -> "%n  %,16d  %s".formatted(s.bytes(), s.owner())).collect(Collectors.joining());
        return Fail.device("Out of device memory: %s wants %,d bytes, and %,d of %,d are free on %s. Make the batch, the "
            + "sequence or what is kept smaller. Held now:%s", name, bytes, room.free(), room.total(), properties.name(), table);
    }

    @Override
    public synchronized void free(long address) {
        Slab slab = slabs.remove(address);
        Fail.unless(slab != null, "freed a device address that was not allocated: 0x%x", address);
        enter();
        check(cuMemFree(new DeviceAddress(address)), "freeing " + slab.owner());
    }

    @Override
    public synchronized List<Slab> slabs() {
        return List.copyOf(slabs.values());
    }

    @Override
    public synchronized MemorySegment pinned(String name, long bytes) {
        enter();
        Address p = new Address();
        int code = cuMemHostAlloc(p, bytes, 0);
        if (code == CUresult.CUDA_ERROR_OUT_OF_MEMORY) throw Fail.device("The host has no %,d bytes to pin for %s: raise "
            + "`ulimit -l` or the container's memory, or make the batch smaller.", bytes, name);
        if (code != 0) throw failed(code, "pinning %,d bytes for %s".formatted(bytes, name));
        pins.put(p.value(), new Slab(name, p.value(), bytes));
        return MemorySegment.ofAddress(p.value()).reinterpret(bytes);
    }

    @Override
    public synchronized void unpin(MemorySegment pinned) {
        Slab pin = pins.remove(pinned.address());
        Fail.unless(pin != null, "unpinned memory that was not pinned: %s", pinned);
        enter();
        check(cuMemFreeHost(new Address(pinned.address())), "unpinning " + pin.owner());
    }

    @Override
    public void upload(long to, MemorySegment from) {
        if (!from.isNative()) try (Arena copy = Arena.ofConfined()) {
            upload(to, copy.allocate(from.byteSize(), 16).copyFrom(from));
        } else if (from.byteSize() > 0) {
            upload(Lane.COMPUTE, to, from);
            sync(Lane.COMPUTE);
        }
    }

    @Override
    public void download(MemorySegment to, long from) {
        if (!to.isNative()) try (Arena copy = Arena.ofConfined()) {
            MemorySegment there = copy.allocate(to.byteSize(), 16);
            download(there, from);
            to.copyFrom(there);
        } else if (to.byteSize() > 0) {
            download(Lane.COMPUTE, to, from);
            sync(Lane.COMPUTE);
        }
    }

    @Override
    public void upload(Lane lane, long to, MemorySegment from) {
        enter();
        int code = cuMemcpyHtoDAsync(new DeviceAddress(to), new Address(from.address()), from.byteSize(), stream(lane));
        if (code != 0) throw failed(code, "copying %,d bytes to device address 0x%x".formatted(from.byteSize(), to));
    }

    @Override
    public void download(Lane lane, MemorySegment to, long from) {
        enter();
        int code = cuMemcpyDtoHAsync(new Address(to.address()), new DeviceAddress(from), to.byteSize(), stream(lane));
        if (code != 0) throw failed(code, "copying %,d bytes from device address 0x%x".formatted(to.byteSize(), from));
    }

    @Override
    public void copy(long to, long from, long bytes) {
        if (bytes == 0) return;
        enter();
        int code = cuMemcpyDtoDAsync(new DeviceAddress(to), new DeviceAddress(from), bytes, stream(Lane.COMPUTE));
        if (code != 0) throw failed(code, "copying %,d bytes from device address 0x%x to 0x%x".formatted(bytes, from, to));
    }

    @Override
    public void fill(long to, byte value, long bytes) {
        if (bytes == 0) return;
        enter();
        int code = cuMemsetD8Async(new DeviceAddress(to), value, bytes, stream(Lane.COMPUTE));
        if (code != 0) throw failed(code, "filling %,d bytes at device address 0x%x".formatted(bytes, to));
    }

    @Override
    public void fill(long to, int word, long words) {
        if (words == 0) return;
        enter();
        int code = cuMemsetD32Async(new DeviceAddress(to), word, words, stream(Lane.COMPUTE));
        if (code != 0) throw failed(code, "filling %,d words at device address 0x%x".formatted(words, to));
    }

    // ---- kernels -----------------------------------------------------------------------------------------------------

    @Override
    public synchronized Kernel kernel(String file, String function) {
        Map<String, Kernel> of = plain.get(file);
        if (of == null) plain.put(file, of = new HashMap<>());
        Kernel k = of.get(function);
        if (k == null) of.put(function, k = load(file, function, List.of()));
        return k;
    }

    @Override
    public synchronized Kernel kernel(String file, String function, String... defines) {
        List<String> key = new ArrayList<>(List.of(file, function));
        key.addAll(Arrays.asList(defines));
        Kernel k = defined.get(key);
        if (k == null) defined.put(key, k = load(file, function, List.of(defines)));
        return k;
    }

    private Kernel load(String file, String function, List<String> defines) {
        enter();
        Kernels.Source source = Kernels.source(file);
        List<Kernel.Parameter> parameters = Kernel.parameters(file, source.text(), function);
        Fail.unless(parameters.size() <= MAX_ARGS, "%s.cu %s has more than %d parameters", file, function, MAX_ARGS);
        CUmodule module = modules.get(file + defines);
        if (module == null) {
            byte[] image = kernels.image(source, defines.stream().map(d -> "-D" + d).toList());
            module = new CUmodule();
            check(cuModuleLoadData(module, image), "loading " + file + ".cu");
            modules.put(file + defines, module);
        }
        CUfunction f = new CUfunction();
        check(cuModuleGetFunction(f, module, function), "finding %s in %s.cu".formatted(function, file));
        return new Kernel(file, function, parameters, f);
    }

    /** How many kernel files this device had to have compiled, for want of an entry in the cache. */
    public int compiled() {
        return kernels.compiled();
    }

    @Override
    public synchronized void launch(Kernel kernel, Blocks blocks, Object... args) {
        enter();
        kernel.marshal(slots, args);
        CUfunction f = (CUfunction) kernel.handle;
        if (blocks.shared() > PLAIN_SHARED && blocks.shared() > kernel.shared) {
            check(cuFuncSetAttribute(f, CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, blocks.shared()),
                "asking for %d bytes of shared memory, of the %d there are, for %s".formatted(blocks.shared(), properties.sharedBytes(), kernel));
            kernel.shared = blocks.shared();
        }
        lastKernel = kernel;
        lastBlocks = blocks;
        int code = cuLaunchKernel(f, blocks.x(), blocks.y(), blocks.z(), blocks.threads(), 1, 1, blocks.shared(),
            stream(Lane.COMPUTE), parameters, null);
        if (code == 0 && waitAlways) code = waitForLaunch();
        if (code != 0) throw failed(code, kernel.describe(blocks, args));
    }

    private int waitForLaunch() {
        int[] capturing = new int[1];
        cuStreamIsCapturing(stream(Lane.COMPUTE), capturing);
        return capturing[0] == 0 ? cuStreamSynchronize(stream(Lane.COMPUTE)) : 0;
    }

    /** NVRTC for a compute capability, 80 for 8.0: it needs no device. */
    static Nvrtc nvrtc(int capability) {
        int[] major = new int[1], minor = new int[1];
        checkNvrtc(JNvrtc.nvrtcVersion(major, minor), "nvrtcVersion");
        return new Nvrtc(capability, major[0] + "." + minor[0]);
    }

    /** NVRTC, for one architecture: to machine code where this NVRTC knows it, else to PTX for the newest it knows. */
    record Nvrtc(int capability, String version) implements Kernels.Compiler {
        private String architecture() {
            int[] n = new int[1];
            JNvrtc.nvrtcGetNumSupportedArchs(n);
            int[] known = new int[n[0]];
            JNvrtc.nvrtcGetSupportedArchs(known);
            if (Arrays.stream(known).anyMatch(a -> a == capability)) return "sm_" + capability;
            return "compute_" + Arrays.stream(known).filter(a -> a <= capability).max().orElse(capability);
        }

        @Override
        public String identity() {
            return architecture() + ", NVRTC " + version;
        }

        @Override
        public byte[] compile(Kernels.Source source, List<String> options) throws Kernels.Rejected {
            String architecture = architecture();
            List<String> all = new ArrayList<>(List.of("--gpu-architecture=" + architecture, "--std=c++17", "--fmad=false"));
            all.addAll(options);
            nvrtcProgram program = new nvrtcProgram();
            checkNvrtc(JNvrtc.nvrtcCreateProgram(program, source.text(), source.name(), source.headers().size(),
                source.headers().values().toArray(String[]::new), source.headers().keySet().toArray(String[]::new)), "nvrtcCreateProgram");
            try {
                int code = JNvrtc.nvrtcCompileProgram(program, all.size(), all.toArray(String[]::new));
                String[] log = {""};
                if (code != 0) JNvrtc.nvrtcGetProgramLog(program, log);
                if (code == nvrtcResult.NVRTC_ERROR_COMPILATION || code == nvrtcResult.NVRTC_ERROR_INVALID_OPTION) throw new Kernels.Rejected(log[0]);
                checkNvrtc(code, "compiling " + source.name() + " " + log[0]);
                return architecture.startsWith("sm_") ? cubin(program) : ptx(program);
            } finally {
                JNvrtc.nvrtcDestroyProgram(program);
            }
        }

        private static byte[] cubin(nvrtcProgram program) {
            long[] size = new long[1];
            checkNvrtc(JNvrtc.nvrtcGetCUBINSize(program, size), "nvrtcGetCUBINSize");
            byte[] image = new byte[Math.toIntExact(size[0])];
            checkNvrtc(JNvrtc.nvrtcGetCUBIN(program, image), "nvrtcGetCUBIN");
            return image;
        }

        private static byte[] ptx(nvrtcProgram program) {
            String[] text = new String[1];
            checkNvrtc(JNvrtc.nvrtcGetPTX(program, text), "nvrtcGetPTX");
            return (text[0] + "\0").getBytes(StandardCharsets.UTF_8);
        }
    }

    // ---- products ----------------------------------------------------------------------------------------------------

    /** Row-major in terms of cuBLAS' column-major: Cᵀ = op(B)ᵀ op(A)ᵀ, and a row-major matrix read by columns is its transpose. */
    @Override
    public synchronized void gemm(Form form, int m, int n, int k, float alpha, Matrix a, Matrix b, float beta, Matrix c, int batch) {
        Fail.unless(a.kind() == b.kind(), "a product of %s and %s", a.kind(), b.kind());
        if (m == 0 || n == 0 || batch == 0) return;
        enter();
        factors.set(ValueLayout.JAVA_FLOAT, 0, alpha);
        factors.set(ValueLayout.JAVA_FLOAT, 4, beta);
        int left = form.rightTransposed() ? cublasOperation.CUBLAS_OP_T : cublasOperation.CUBLAS_OP_N;
        int right = form.leftTransposed() ? cublasOperation.CUBLAS_OP_T : cublasOperation.CUBLAS_OP_N;
        Pointer pa = new DeviceAddress(a.address()), pb = new DeviceAddress(b.address()), pc = new DeviceAddress(c.address());
        int compute = a.kind() == Kind.TF32 ? cublasComputeType.CUBLAS_COMPUTE_32F_FAST_TF32 : cublasComputeType.CUBLAS_COMPUTE_32F;
        int algorithm = cublasGemmAlgo.CUBLAS_GEMM_DEFAULT;
        int code = batch == 1
            ? JCublas2.cublasGemmEx_new(cublas, left, right, n, m, k, this.alpha, pb, type(b), b.ld(), pa, type(a), a.ld(),
                this.beta, pc, type(c), c.ld(), compute, algorithm)
            : JCublas2.cublasGemmStridedBatchedEx_new(cublas, left, right, n, m, k, this.alpha, pb, type(b), b.ld(), b.stride(),
                pa, type(a), a.ld(), a.stride(), this.beta, pc, type(c), c.ld(), c.stride(), batch, compute, algorithm);
        if (code != 0) throw Fail.device("%s in the product %s of m = %d, n = %d, k = %d, batch %d: A %s, B %s, C %s",
            cublasStatus.stringFor(code), form, m, n, k, batch, a, b, c);
    }

    private static int type(Matrix m) {
        return m.kind() == Kind.BF16 ? cudaDataType.CUDA_R_16BF : cudaDataType.CUDA_R_32F;
    }

    // ---- order -------------------------------------------------------------------------------------------------------

    @Override
    public Event event() {
        enter();
        CUevent e = new CUevent();
        check(cuEventCreate(e, 0), "cuEventCreate");
        return new Mark(e);
    }

    private final class Mark implements Event {
        private final CUevent event;

        Mark(CUevent event) {
            this.event = event;
        }

        @Override
        public void record(Lane lane) {
            enter();
            check(cuEventRecord(event, stream(lane)), "recording an event");
        }

        @Override
        public void hold(Lane lane) {
            enter();
            check(cuStreamWaitEvent(stream(lane), event, 0), "holding a lane for an event");
        }

        @Override
        public void await() {
            enter();
            check(cuEventSynchronize(event), "waiting for an event");
        }

        @Override
        public boolean reached() {
            enter();
            int code = cuEventQuery(event);
            if (code != CUresult.CUDA_ERROR_NOT_READY) check(code, "asking for an event");
            return code == 0;
        }

        @Override
        public float millisSince(Event earlier) {
            enter();
            float[] ms = new float[1];
            check(cuEventElapsedTime(ms, ((Mark) earlier).event, event), "timing two events");
            return ms[0];
        }

        @Override
        public void close() {
            enter();
            check(cuEventDestroy(event), "cuEventDestroy");
        }
    }

    @Override
    public Graph capture(Runnable work) {
        enter();
        check(cuStreamBeginCapture(stream(Lane.COMPUTE), CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
        CUgraph graph = new CUgraph();
        int code;
        try {
            work.run();
        } catch (Throwable t) {
            if (cuStreamEndCapture(stream(Lane.COMPUTE), graph) == 0) cuGraphDestroy(graph);
            throw t;
        }
        code = cuStreamEndCapture(stream(Lane.COMPUTE), graph);
        if (code != 0) throw failed(code, "capturing a step");
        try {
            long[] nodes = new long[1];
            check(cuGraphGetNodes(graph, null, nodes), "cuGraphGetNodes");
            CUgraphExec exec = new CUgraphExec();
            check(cuGraphInstantiate(exec, graph, 0), "cuGraphInstantiate");
            return new Captured(exec, Math.toIntExact(nodes[0]));
        } finally {
            cuGraphDestroy(graph);
        }
    }

    private final class Captured implements Graph {
        private final CUgraphExec exec;
        private final int nodes;

        Captured(CUgraphExec exec, int nodes) {
            this.exec = exec;
            this.nodes = nodes;
        }

        @Override
        public void launch() {
            enter();
            check(cuGraphLaunch(exec, stream(Lane.COMPUTE)), "launching a captured step");
        }

        @Override
        public int nodes() {
            return nodes;
        }

        @Override
        public void close() {
            enter();
            check(cuGraphExecDestroy(exec), "cuGraphExecDestroy");
        }
    }

    @Override
    public void sync(Lane lane) {
        enter();
        int code = cuStreamSynchronize(stream(lane));
        if (code != 0) throw failed(code, "waiting for the %s lane".formatted(lane.name().toLowerCase()));
    }

    @Override
    public void sync() {
        enter();
        int code = cuCtxSynchronize();
        if (code != 0) throw failed(code, "waiting for the device");
    }

    /** Gives everything back; errors are past mending here and not reported. */
    @Override
    public synchronized void close() {
        if (cuCtxSetCurrent(context) != 0) return;
        cuCtxSynchronize();
        JCublas2.cublasDestroy(cublas);
        for (long p : slabs.keySet()) cuMemFree(new DeviceAddress(p));
        for (long p : pins.keySet()) cuMemFreeHost(new Address(p));
        for (CUmodule m : modules.values()) cuModuleUnload(m);
        for (CUstream s : streams) cuStreamDestroy(s);
        slabs.clear();
        pins.clear();
        cuDevicePrimaryCtxRelease(device);
        arena.close();
    }

    // ---- errors ------------------------------------------------------------------------------------------------------

    private static void check(int code, String doing) {
        if (code != 0) throw Fail.device("%s: %s", doing, text(code));
    }

    private static void checkBlas(int code, String doing) {
        if (code != 0) throw Fail.device("%s: %s (libcublas.so.12)", doing, cublasStatus.stringFor(code));
    }

    private static void checkNvrtc(int code, String doing) {
        if (code != 0) throw Fail.device("%s: %s (libnvrtc.so.12)", doing, nvrtcResult.stringFor(code));
    }

    /** The error with what was being done, what may be behind it, and what to do. */
    private Fail failed(int code, String doing) {
        if (code >= FIRST_CAPTURE_ERROR && code <= LAST_CAPTURE_ERROR)
            return Fail.device("%s: %s. A step that is being captured may neither allocate nor wait nor copy to unpinned memory.", doing, text(code));
        boolean late = code >= CUresult.CUDA_ERROR_ILLEGAL_ADDRESS && code < FIRST_CAPTURE_ERROR;
        return Fail.device("%s: %s%s", doing, text(code), !late || lastKernel == null || waitAlways ? "" :
            ". The last kernel launched was %s %s; with QAT_CUDA_SYNC=1 the failing one is named".formatted(lastKernel, lastBlocks));
    }

    private static String text(int code) {
        String[] name = new String[1], text = new String[1];
        cuGetErrorName(code, name);
        cuGetErrorString(code, text);
        return name[0] + " (" + code + "), " + text[0];
    }

    /** A host address as JCuda wants it. */
    private static final class Address extends Pointer {
        Address(long address) {
            super(address);
        }

        Address() {}

        long value() {
            return getNativePointer();
        }
    }

    /** A device address as JCuda wants it. */
    private static final class DeviceAddress extends CUdeviceptr {
        private static final CUdeviceptr ZERO = new CUdeviceptr();

        DeviceAddress(long address) {
            super(ZERO, address);
        }

        DeviceAddress() {}

        long value() {
            return getNativePointer();
        }
    }
}

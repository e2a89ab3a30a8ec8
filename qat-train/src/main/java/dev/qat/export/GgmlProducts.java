package dev.qat.export;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.invoke.MethodHandle;

/** The products that one token needs, as a graph of llama.cpp's own library: y = W · x for each of some square matrices of one type. */
final class GgmlProducts {
    /** ggml_init_params: mem_size, mem_buffer, no_alloc. */
    private static final StructLayout PARAMS = MemoryLayout.structLayout(JAVA_LONG, ADDRESS, JAVA_BOOLEAN, MemoryLayout.paddingLayout(7));
    private static final long WORK = 1 << 20;   // what one run of a graph allocates beside its tensors, at most

    private final MethodHandle compute;
    private final MemorySegment context, graph;
    private final int threads;

    GgmlProducts(LlamaNative llama, int type, int rowBytes, int width, int matrices, int threads, int turns) throws Throwable {
        this.threads = threads;
        MethodHandle tensor = llama.bind("ggml_new_tensor_2d", FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_INT, JAVA_LONG, JAVA_LONG));
        MethodHandle data = llama.bind("ggml_get_data", FunctionDescriptor.of(ADDRESS, ADDRESS)), product = llama.bind("ggml_mul_mat", FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS, ADDRESS));
        MethodHandle expand = llama.bind("ggml_build_forward_expand", FunctionDescriptor.ofVoid(ADDRESS, ADDRESS));
        compute = llama.bind("ggml_graph_compute_with_ctx", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT));
        try (java.lang.foreign.Arena arena = java.lang.foreign.Arena.ofConfined()) {
            MemorySegment params = arena.allocate(PARAMS);
            params.set(JAVA_LONG, 0, (long) matrices * ((long) rowBytes * width + 4L * width + 4096) + (turns + 64) * WORK);
            context = (MemorySegment) llama.bind("ggml_init", FunctionDescriptor.of(ADDRESS, PARAMS)).invokeExact(params);
        }
        if (context.address() == 0) throw new IllegalStateException("ggml_init has no memory for " + matrices + " matrices of " + width);
        float[] values = new float[width];
        for (int i = 0; i < width; i++) values[i] = (float) Math.sin(i * 1.7 + Math.sqrt(i));
        MemorySegment row = MemorySegment.ofArray(llama.quantize(type, values, 1, width, rowBytes)), x = (MemorySegment) tensor.invokeExact(context, 0, (long) width, 1L);
        MemorySegment.copy(MemorySegment.ofArray(values), 0, ((MemorySegment) data.invokeExact(x)).reinterpret(4L * width), 0, 4L * width);
        graph = (MemorySegment) llama.bind("ggml_new_graph", FunctionDescriptor.of(ADDRESS, ADDRESS)).invokeExact(context);
        for (int m = 0; m < matrices; m++) {
            MemorySegment w = (MemorySegment) tensor.invokeExact(context, type, (long) width, (long) width);
            MemorySegment to = ((MemorySegment) data.invokeExact(w)).reinterpret((long) rowBytes * width);
            for (long o = 0; o < width; o++) MemorySegment.copy(row, 0, to, o * rowBytes, rowBytes);
            expand.invokeExact(graph, (MemorySegment) product.invokeExact(context, w, x));
        }
    }

    /** Nanoseconds for all products once. */
    long turn() throws Throwable {
        long start = System.nanoTime();
        int status = (int) compute.invokeExact(context, graph, threads);
        if (status != 0) throw new IllegalStateException("ggml_graph_compute_with_ctx returned " + status);
        return System.nanoTime() - start;
    }
}

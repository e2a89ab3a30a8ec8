package dev.qat.model;

import dev.qat.tensor.DType;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Memory;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/** A block's masters, read from their source and widened on the host by a thread of its own, while the device computes with another block. */
final class Ahead implements AutoCloseable {
    final Block block;
    private final Memory memory;
    private final HostMemory host = new HostMemory();
    private final long address;
    /** The block's parameters, on the host. */
    private final List<Param> there = new ArrayList<>();
    private final CompletableFuture<Void> read;

    Ahead(Memory memory, Block block, ModelConfig config, Model.Source source) {
        this.memory = memory;
        this.block = block;
        List<Param> params = new Block(config, block.index).layout();
        address = host.allocate("the next block's weights", bytes(params));
        long at = address;
        for (Param p : params) {
            Tensor t = new Tensor(p.name(), DType.F32, at, p.value().dims());
            at += t.bytes();
            p.place(t);
            there.add(p);
        }
        read = CompletableFuture.runAsync(() -> there.forEach(p -> source.read(host, p)), r -> Thread.ofPlatform().daemon().name("next block").start(r));
    }

    static long bytes(List<Param> params) {
        return params.stream().mapToLong(p -> 4 * p.value().size()).sum();
    }

    /** Fills the block's parameters, which have memory by now. */
    void give() {
        try {
            read.join();
        } catch (CompletionException e) {
            if (e.getCause() instanceof RuntimeException r) throw r;
            throw e;
        }
        for (int i = 0; i < there.size(); i++) {
            Tensor from = there.get(i).value();
            memory.write(block.layout().get(i).value(), MemorySegment.ofAddress(from.address).reinterpret(from.bytes()));
        }
    }

    /** Waits for the reading, which may have failed: then nobody wants it. */
    @Override
    public void close() {
        read.handle((_, _) -> null).join();
        host.free(address);
    }
}

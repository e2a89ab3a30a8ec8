package dev.qat.cuda;

import dev.qat.ops.Backend;

/**
 * Runs a training step: twice as it is, then captured once as a graph, and from there one launch a step.
 *
 * <p>The step's Java code runs while it is eager or captured; a replay only repeats what the device did, at the same
 * addresses. So whatever changes from step to step (tokens, learning rate, seeds) must be read from device memory that is
 * written before {@link #run}, and when shapes, stages or sockets change, {@link #invalidate} must be called. The eager steps
 * come first because they compile kernels and find out where gradients live.
 */
public final class StepGraph implements AutoCloseable {
    private static final int EAGER_STEPS = 2;

    private final Device device;
    private final CudaMemory memory;
    private final boolean eager;
    private Device.Graph graph;
    private int steps;

    StepGraph(Device device, CudaMemory memory, boolean eager) {
        this.device = device;
        this.memory = memory;
        this.eager = eager;
    }

    /** One step: computed, or captured and launched, or launched. */
    public void run(Runnable step) {
        if (eager || steps < EAGER_STEPS) {
            step.run();
            steps++;
            return;
        }
        if (graph == null) graph = capture(step);
        graph.launch();
    }

    /** This recorder for one step. */
    Backend.Repeated repeating(Runnable step) {
        return new Backend.Repeated() {
            @Override
            public void run() {
                StepGraph.this.run(step);
            }

            @Override
            public void close() {
                StepGraph.this.close();
            }
        };
    }

    private Device.Graph capture(Runnable step) {
        memory.capturing(true);
        try {
            return device.capture(step);
        } finally {
            memory.capturing(false);
        }
    }

    /** Forgets the captured step: the next two run eagerly and the third is captured anew. */
    public void invalidate() {
        if (graph != null) {
            device.sync();
            graph.close();
        }
        graph = null;
        steps = 0;
    }

    /** Whether the next step is a replay. */
    public boolean captured() {
        return graph != null;
    }

    /** The launches, copies, fills and products of the captured step; 0 before it is captured. */
    public int nodes() {
        return graph == null ? 0 : graph.nodes();
    }

    @Override
    public void close() {
        invalidate();
    }
}

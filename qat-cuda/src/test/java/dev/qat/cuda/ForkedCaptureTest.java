package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** A captured step that forks into lanes: the stand-in replays it in orders that its waits allow, so that a missing one shows. */
class ForkedCaptureTest {
    private JCudaDevice dev;

    @BeforeEach
    void open() {
        StandIn.load();
        dev = StandIn.open();
    }

    @AfterEach
    void close() {
        if (dev == null) return;
        StandIn.reset();
        dev.close();
    }

    /** x comes from the host on a lane of its own; y = rowSums(x), and y goes back on a third. */
    private void forked(long dy, long dx, MemorySegment from, MemorySegment to, Device.Event[] marks, Device.Lane forgotten) {
        marks[0].record(Device.Lane.COMPUTE);
        marks[0].hold(Device.Lane.UPLOAD);
        dev.upload(Device.Lane.UPLOAD, dx, from);
        marks[1].record(Device.Lane.UPLOAD);
        if (forgotten != Device.Lane.COMPUTE) marks[1].hold(Device.Lane.COMPUTE);
        if (forgotten == Device.Lane.DOWNLOAD) marks[1].hold(Device.Lane.DOWNLOAD);      // for the upload, where the kernel was meant
        dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), dy, dx, 1, 32);
        marks[2].record(Device.Lane.COMPUTE);
        if (forgotten != Device.Lane.DOWNLOAD) marks[2].hold(Device.Lane.DOWNLOAD);
        dev.download(Device.Lane.DOWNLOAD, to, dy);
        marks[3].record(Device.Lane.DOWNLOAD);
        if (forgotten == Device.Lane.COMPUTE) marks[1].hold(Device.Lane.COMPUTE);        // joined, but behind the kernel that needs it
        if (forgotten != Device.Lane.UPLOAD) marks[3].hold(Device.Lane.COMPUTE);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "COMPUTE", "DOWNLOAD"})
    void aForgottenWaitInsideAGraphShows(String name) {
        Device.Lane forgotten = name.isEmpty() ? null : Device.Lane.valueOf(name);
        MemorySegment from = dev.pinned("from", 128), to = dev.pinned("to", 4);
        long dx = Floats.put(dev, "x", new float[32]), dy = Floats.put(dev, "y", new float[1]);
        dev.kernel("test/reduce", "rowSums");
        Device.Event[] marks = {dev.event(), dev.event(), dev.event(), dev.event()};
        int wrong = 0;
        try (Device.Graph graph = dev.capture(() -> forked(dy, dx, from, to, marks, forgotten))) {
            assertEquals(3, graph.nodes());
            for (int i = 1; i <= 24; i++) {
                for (int k = 0; k < 32; k++) from.setAtIndex(ValueLayout.JAVA_FLOAT, k, i);
                graph.launch();
                dev.sync();
                if (to.get(ValueLayout.JAVA_FLOAT, 0) != 32 * i) wrong++;
            }
        }
        System.err.printf("a graph without a wait of %s: wrong in %d of 24 replays%n", forgotten, wrong);
        assertEquals(forgotten != null, wrong > 0, "wrong in " + wrong + " replays");
        for (Device.Event e : marks) e.close();
    }

    @Test
    void whatACaptureForkedItMustJoin() {
        MemorySegment from = dev.pinned("from", 128).fill((byte) 0), to = dev.pinned("to", 4);
        long dx = dev.alloc("x", 128), dy = dev.alloc("y", 4);
        dev.kernel("test/reduce", "rowSums");
        Device.Event[] marks = {dev.event(), dev.event(), dev.event(), dev.event()};
        Fail loose = assertThrows(Fail.class, () -> dev.capture(() -> forked(dy, dx, from, to, marks, Device.Lane.UPLOAD)));
        assertTrue(loose.getMessage().contains("CAPTURE_UNJOINED"), loose::getMessage);
        Fail over = assertThrows(Fail.class, () -> marks[0].hold(Device.Lane.UPLOAD));
        assertTrue(over.getMessage().contains("CAPTURED_EVENT"), over::getMessage);
        forked(dy, dx, from, to, marks, null);
        dev.sync();
        assertEquals(0, to.get(ValueLayout.JAVA_FLOAT, 0));
        for (Device.Event e : marks) e.close();
    }
}

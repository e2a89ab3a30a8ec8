package dev.qat.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.train.Stop;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

final class SignalsTest {
    private final List<Integer> quits = new ArrayList<>();
    private final List<String> told = new ArrayList<>();
    private final Stop stop = new Stop();
    private final Signals signals = new Signals(stop, told::add, quits::add);

    @Test
    void aRunAtWorkIsAskedToStop() {
        stop.heed();
        signals.came("USR1");
        assertTrue(stop.asked());
        assertEquals(List.of(), quits);
        assertTrue(told.getFirst().contains("SIGUSR1: writing a checkpoint"), told.toString());
    }

    @Test
    void aSecondInterruptQuits() {
        stop.heed();
        signals.came("INT");
        assertEquals(List.of(), quits);
        signals.came("INT");
        assertEquals(List.of(130), quits);
    }

    @Test
    void aTermAfterAnInterruptStillWaitsForTheCheckpoint() {
        stop.heed();
        signals.came("INT");
        signals.came("TERM");
        assertEquals(List.of(), quits);
    }

    @Test
    void withoutARunTheCommandEndsAsAnyOther() {
        signals.came("USR1");
        assertEquals(List.of(), quits);
        assertFalse(stop.asked());
        signals.came("TERM");
        signals.came("INT");
        assertEquals(List.of(143, 130), quits);
    }
}

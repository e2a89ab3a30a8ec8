package dev.qat.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.qat.tensor.Fail;
import org.junit.jupiter.api.Test;

final class ScheduleTest {
    @Test
    void cosineToATwentiethIsTheOneOfBlockAp() {
        Schedule s = new Schedule(Schedule.Shape.COSINE, 0, 0.05);
        assertEquals(1e-4, 1e-4 * s.at(0, 4096), 1e-18);
        assertEquals(9.999998602848692e-05, 1e-4 * s.at(1, 4096), 1e-16);
        assertEquals(5.25e-05, 1e-4 * s.at(2048, 4096), 1e-16);
    }

    @Test
    void warmUpRisesInEqualStepsToThePeak() {
        Schedule s = new Schedule(Schedule.Shape.COSINE, 0.1, 0);
        assertEquals(0.1, s.at(0, 100), 1e-12);
        assertEquals(1, s.at(9, 100), 1e-12);
        assertEquals(1, s.at(10, 100), 1e-12);
        assertEquals(0.5, s.at(55, 100), 1e-12);
    }

    @Test
    void wsdStaysAndThenFalls() {
        Schedule s = new Schedule(Schedule.Shape.WSD, 0, 0.1);
        assertEquals(1, s.at(79, 100), 1e-12);
        assertEquals(0.55, s.at(90, 100), 1e-9);
        assertEquals(0.55, new Schedule(Schedule.Shape.LINEAR, 0, 0.1).at(50, 100), 1e-12);
    }

    @Test
    void wholeCosineFallsWhileTheWarmUpRises() {
        Schedule s = new Schedule(Schedule.Shape.WHOLE_COSINE, 0.25, 0);
        assertEquals(1 / 25.0, s.at(0, 100), 1e-12);
        assertEquals(0.6 * (1 + Math.cos(Math.PI * 0.14)) / 2, s.at(14, 100), 1e-12);
        assertEquals(0.5, s.at(50, 100), 1e-12);
        assertEquals((1 + Math.cos(Math.PI * 0.75)) / 2, s.at(75, 100), 1e-12);
    }

    @Test
    void refusesSharesOutsideTheirRange() {
        assertEquals(Fail.USAGE, assertThrows(Fail.class, () -> new Schedule(Schedule.Shape.COSINE, 1, 0)).code());
        assertEquals(Fail.USAGE, assertThrows(Fail.class, () -> new Schedule(Schedule.Shape.COSINE, 0, 2)).code());
    }
}

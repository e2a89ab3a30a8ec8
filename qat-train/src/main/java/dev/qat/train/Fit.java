package dev.qat.train;

import java.util.ArrayList;
import java.util.List;

/** A plan beside a machine: what it needs and what there is, in bytes. */
public record Fit(List<Need> needs) {
    /** @param limit what may be taken; 0 where nobody knows */
    public record Need(String what, long bytes, long limit) {
        public boolean fits() {
            return limit == 0 || bytes <= limit;
        }
    }

    /** What a machine has; 0 for unknown.  @param shared whether the device's memory is the host's, as on a CPU */
    public record Room(long device, long host, long disk, boolean shared) {}

    /** Shares that may be taken: a driver's context and the JVM's own heap need the rest. */
    private static final double OF_DEVICE = 0.95, OF_HOST = 0.9;

    public static Fit of(Plan plan, Room room) {
        long host = plan.host().values().stream().mapToLong(Long::longValue).sum(), disk = plan.disk().values().stream().mapToLong(Long::longValue).sum();
        List<Need> needs = new ArrayList<>();
        if (room.shared) {
            needs.add(new Need("memory", plan.peakBytes() + host, (long) (OF_HOST * room.device)));
        } else {
            needs.add(new Need("device memory", plan.peakBytes(), (long) (OF_DEVICE * room.device)));
            needs.add(new Need("host memory", host, (long) (OF_HOST * room.host)));
        }
        needs.add(new Need("disk", disk, room.disk));
        return new Fit(needs);
    }

    public boolean fits() {
        return needs.stream().allMatch(Need::fits);
    }

    /** Whether memory was compared with anything. */
    public boolean known() {
        return needs.getFirst().limit > 0;
    }

    /** Bytes beyond what there is, of everything together. */
    public long over() {
        return needs.stream().filter(n -> !n.fits()).mapToLong(n -> n.bytes - n.limit).sum();
    }
}

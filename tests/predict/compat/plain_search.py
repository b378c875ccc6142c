"""The model once more as plain loops over candidates, as its formulas read: slow and easy to check.

Random densities come from a function `worst(tiles, tile, share, run)`, so that only the searches are compared.
"""

from math import ceil


def tile_sizes(n):
    sizes = {2**k for k in range(8) if 2**k <= 2 * n}
    sizes |= {ceil(n / i) for i in range(1, min(n, 8))}
    sizes |= set(range(2, min(n, 8)))
    return sorted(sizes)


def fill(x, lanes):
    return x / (lanes * ceil(x / lanes))


def coal(n, gap, q):
    gap = max(gap, 0)
    if n > q:
        return fill(n, q)
    if n + gap > q:
        return n / q
    return n / (n + gap)


def conv(dev, worst, cin, cout, inh, inw, ks, groups=1, stride=1, i=1, o=1):
    B, W, V = dev.batch, dev.dram_elements_s, dev.l2_elements_s
    fu, P, k, s = dev.unit_macs_s, dev.fill_lanes, ks, stride
    H, Wd, m = inh // s, inw // s, cin // groups
    best = None
    for a in tile_sizes(cout):
        for b in tile_sizes(H):
            for d in tile_sizes(Wd):
                n_c = ceil(cout / a)
                n = n_c * ceil(H / b) * ceil(Wd / d)
                w_t = a * m * k**2 * (i * o if B == 1 else 1)
                x_t = ceil(a / (cout // groups)) * m * ((b + k - 1) * s) * ((d + k - 1) * s)
                e2 = n * (w_t + B * (i * x_t + o * a * b * d))
                e1 = cout * m * k**2 * (o if B == 1 else 1) + B * i * cin * H * s * Wd * s + B * o * cout * H * Wd
                memory = e1 / W + e2 / (V * coal(d, Wd - d, dev.coalescing))
                compute = a * b * d * m * k**2 * B / fu * i * worst(n_c, a, i * o, 1)
                compute = compute / fill(a * b * d, P) * ceil(n / dev.units)
                if best is None or compute + memory < best:
                    best = compute + memory
    return best + dev.launch_s


def dynamic_conv(dev, worst, cin, cout, inh, inw, ks, groups, stride, S, rho, indexed, i, o, g):
    B, W, V = dev.batch, dev.dram_elements_s, dev.l2_elements_s
    fu, P, k, s = dev.unit_macs_s, dev.fill_lanes, ks, stride
    H, Wd, m = inh // s, inw // s, cin // groups
    N_p = ceil(H / S) * ceil(Wd / S)

    def cost(nu, p, a, b, d):
        n = ceil(cout / a) * ceil(S / b) * ceil(S / d)
        w_t = a * m * k**2 * (i * o if B == 1 else 1)
        x_t = ceil(a / (cout // groups)) * m * ((b + k - 1) * s) * ((d + k - 1) * s)
        X = cin * H * s * Wd * s if indexed else nu * cin * ((S + k - 1) * s) ** 2
        memory = (cout * m * k**2 + B * i * X + B * o * nu * cout * S**2) / W
        memory += n * (w_t + B * i * nu * x_t + B * o * nu * a * b * d) / V
        if nu == 0:
            return memory
        compute = a * b * d * m * k**2 * p / fu / fill(a * b * d * B * p, P) * ceil(nu / p)
        compute = compute * i * worst(ceil(cout / a), a, i * o, g) * B * ceil(n / dev.units)
        return compute + memory

    best, tile = None, None
    for p in tile_sizes(256):
        for a in tile_sizes(cout):
            for b in tile_sizes(S):
                for d in tile_sizes(S):
                    now = cost((1 + N_p) / 2, p, a, b, d)
                    if best is None or now < best:
                        best, tile = now, (p, a, b, d)
    return cost(ceil(rho * ceil(H / S) * ceil(Wd / S)), *tile) + dev.launch_s


def scatter_add(dev, c, h, w, S, rho):
    B, W, V, fu, P = dev.batch, dev.dram_elements_s, dev.l2_elements_s, dev.unit_macs_s, dev.fill_lanes
    N_p = ceil(h / S) * ceil(w / S)

    def cost(nu, p, a, b, d):
        n = ceil(c / a) * ceil(S / b) * ceil(S / d)
        t = a * b * d
        memory = B * (nu * c * S**2 + 2 * c * h * w) / W
        memory += 3 * t * nu * n * B / (V * coal(d, S - d, dev.coalescing))
        return t * p / fu / fill(t * B * p, P) * ceil(nu / p) * B * ceil(n / dev.units) + memory

    best, tile = None, None
    for p in tile_sizes(N_p):
        for a in tile_sizes(c):
            for b in tile_sizes(S):
                for d in tile_sizes(S):
                    now = cost((1 + N_p) / 2, p, a, b, d)
                    if best is None or now < best:
                        best, tile = now, (p, a, b, d)
    return cost(ceil(rho * ceil(h / S) * ceil(w / S)), *tile) + dev.launch_s


def add(dev, c, h, w):
    best = None
    for a in tile_sizes(c):
        for b in tile_sizes(h):
            for d in tile_sizes(w):
                t, n = a * b * d, ceil(c / a) * ceil(h / b) * ceil(w / d)
                now = t / dev.unit_macs_s / fill(t, dev.fill_lanes) * ceil(n / dev.units) * dev.batch
                now += 3 * t * n / dev.dram_elements_s * dev.batch
                best = now if best is None else min(best, now)
    return best + dev.launch_s


def fc(dev, cin, cout):
    B, W, V = dev.batch, dev.dram_elements_s, dev.l2_elements_s
    best = None
    for a in tile_sizes(cout):
        for b in tile_sizes(cin):
            n = a * b
            now = (cin * cout + cin + cout) * B / W
            now += (a * b + a + b) * n * B / (V * coal(b, cin, dev.coalescing))
            now += a * b * B / dev.unit_macs_s / fill(a * b * B, dev.fill_lanes) * ceil(n / dev.units)
            best = now if best is None else min(best, now)
    return best + dev.launch_s


def tree(dev, a, values):
    seconds, z = 0.0, ceil(values / 2)
    while z > 1:
        seconds += ceil(z * a / dev.lanes) / fill(z * a, dev.fill_lanes) / dev.clock_hz
        z = ceil(z / 2)
    return seconds * dev.batch


def global_pool(dev, c, h, w):
    B, W, V = dev.batch, dev.dram_elements_s, dev.l2_elements_s
    best = None
    for a in (2**k for k in range(8) if 2**k <= 2 * c):
        n_c = ceil(c / a)
        n = n_c * h * w
        now = a / dev.unit_macs_s / fill(a, dev.fill_lanes) * ceil(n / dev.units) + tree(dev, a, h * w)
        now += B * ((a / W + a / V) * n + (a * h * w + a) / V * n_c)
        best = now if best is None else min(best, now)
    return best


def scale(dev, c, h, w):
    best = None
    for a in tile_sizes(c):
        for b in tile_sizes(h):
            for d in tile_sizes(w):
                t, n = a * b * d, ceil(c / a) * ceil(h / b) * ceil(w / d)
                now = (2 * c * h * w + c) / dev.dram_elements_s
                now += n * (2 * t + a) / (dev.l2_elements_s * coal(d, w - d, dev.coalescing))
                now += t / dev.unit_macs_s / fill(t, dev.fill_lanes) * ceil(n / dev.units)
                best = now if best is None else min(best, now)
    return best * dev.batch


def se(dev, c, h, w, r):
    return global_pool(dev, c, h, w) + excitation(dev, c, h, w, r)


def excitation(dev, c, h, w, r):
    return scale(dev, c, h, w) + 2 * dev.launch_s + fc(dev, c, r) + fc(dev, r, c)


def dynamic_se(dev, c, h, w, r, S, rho):
    B, W, V, fu, P = dev.batch, dev.dram_elements_s, dev.l2_elements_s, dev.unit_macs_s, dev.fill_lanes
    N_p = ceil(h / S) * ceil(w / S)

    def cost(nu, p, a, b, d, reduced):
        n = ceil(c / a) * ceil(S / b) * ceil(S / d)
        l2 = (a * b * d * nu + a) * n + a * ceil(h / b) * ceil(w / d) + a
        memory = B * ((nu * c * S**2 + c * h * w) / W + l2 / (V * coal(d, S - d, dev.coalescing)))
        compute = a * b * d * p / fu / fill(a * p, P) * ceil(nu / p) + a * p / fu / fill(a, P)
        return B * compute * ceil(n / dev.units) + tree(dev, a, reduced) + memory

    best, tile = None, None
    for p in tile_sizes(N_p):
        for a in tile_sizes(c):
            for b in tile_sizes(S):
                for d in tile_sizes(S):
                    now = cost((1 + N_p) / 2, p, a, b, d, ceil(S / b) * ceil(S / d))
                    if best is None or now < best:
                        best, tile = now, (p, a, b, d)
    _, _, b, d = tile
    return cost(ceil(rho * ceil(h / S) * ceil(w / S)), *tile, ceil(h / b) * ceil(w / d)) + excitation(dev, c, h, w, r)

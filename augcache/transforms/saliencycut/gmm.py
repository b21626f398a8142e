"""Gaussian mixtures of colours: built by splitting, refined by reassignment.

Orchard and Bouman, "Color quantization of images", IEEE Trans. Signal Processing 1991, as GrabCut implementations use
it: the component that varies most along one axis is split at its mean across that axis.

Samples are colours, float64 (N, 3), 0..255; being whole numbers, they and weights of 0 and 1 give sums without
rounding. A mixture is float64 (K, 12), a component a row: share of a weight (0: unused), log of the density's
factor, mean (3), inverse covariance (xx, xy, xz, yy, yz, zz), log of the share.
"""

from __future__ import annotations

import math

import numpy as np

from augcache.records.compiled import kernel

COMPONENTS = 5
SMALLEST_SPLIT = 0.01 * 255**2  # variance below which a component is not split
REGULARISER = 1e-7 * 255**2  # added to the variances, so that a single colour has a density
NOTHING = (0.0,) * 10  # moments of no samples
BLOCK = 512  # samples whose densities are computed at once
NEGLIGIBLE = 20.0  # a component whose log density is this much below the greatest is left out


@kernel
def distinct(image):  # type: ignore[no-untyped-def]  # numba infers
    """Distinct colours of uint8 (H, W, 3), float64 (N, 3), and which of them each pixel has, int64 (H * W,).

    Sorted by two passes of counting, twelve bits each.
    """
    height, width = image.shape[:2]
    code = np.empty(height * width, np.int64)
    for y in range(height):
        for x in range(width):
            code[y * width + x] = (int(image[y, x, 0]) << 16) | (int(image[y, x, 1]) << 8) | int(image[y, x, 2])
    order = np.arange(len(code))
    for shift in (0, 12):
        place = np.zeros(4097, np.int64)
        for c in code:
            place[((c >> shift) & 4095) + 1] += 1
        place = np.cumsum(place)
        after = np.empty_like(order)
        for pixel in order:
            digit = (code[pixel] >> shift) & 4095
            after[place[digit]] = pixel
            place[digit] += 1
        order = after
    index = np.empty(len(code), np.int64)
    colours = np.empty((len(code), 3))
    n = 0
    for i in range(len(order)):
        c = code[order[i]]
        if i == 0 or c != code[order[i - 1]]:
            colours[n] = (c >> 16, (c >> 8) & 255, c & 255)
            n += 1
        index[order[i]] = n - 1
    return colours[:n].copy(), index


@kernel
def build(samples, weight, most):  # type: ignore[no-untyped-def]  # numba infers
    """Mixture of at most `most` components of samples with weights float64 (N,)."""
    moments = np.zeros((most, 10))
    axes = np.zeros((most, 4))  # largest variance, its direction
    used_samples = np.empty((len(samples), 4))
    n, sums = 0, NOTHING
    for i in range(len(samples)):
        if weight[i] > 0:
            used_samples[n, 0], used_samples[n, 1], used_samples[n, 2] = samples[i, 0], samples[i, 1], samples[i, 2]
            used_samples[n, 3] = weight[i]
            sums = _plus(sums, samples[i, 0], samples[i, 1], samples[i, 2], weight[i])
            n += 1
    for j in range(10):
        moments[0, j] = sums[j]
    begin, end = np.zeros(most, np.int64), np.full(most, n)  # a component's samples lie together
    axes[0] = _main_axis(_covariance(moments[0]))
    used = 1
    while used < most:
        widest = int(np.argmax(axes[:used, 0]))
        if axes[widest, 0] < SMALLEST_SPLIT:
            break
        begin[used], end[used] = _split(
            used_samples, begin[widest], end[widest], axes[widest], moments[widest], moments[used]
        )
        end[widest] = begin[used]
        for k in (widest, used):
            axes[k] = _main_axis(_covariance(moments[k]))
        used += 1
    return _mixture(moments[:used], moments[:used, 0].sum())


@kernel
def _split(samples, begin, end, axis, parent, child):  # type: ignore[no-untyped-def]  # numba infers
    """Move what lies beyond the mean along the axis to the end of the range, and to the child's moments."""
    x, y, z = axis[1:]
    middle = (x * parent[1] + y * parent[2] + z * parent[3]) / parent[0]
    first, sums = end, NOTHING
    i = begin
    while i < first:
        a, b, c, w = samples[i, 0], samples[i, 1], samples[i, 2], samples[i, 3]
        if x * a + y * b + z * c > middle:
            first -= 1
            samples[i, 0], samples[i, 1] = samples[first, 0], samples[first, 1]  # not by row: a row is an object
            samples[i, 2], samples[i, 3] = samples[first, 2], samples[first, 3]
            samples[first, 0], samples[first, 1], samples[first, 2], samples[first, 3] = a, b, c, w
            sums = _plus(sums, a, b, c, w)
        else:
            i += 1
    for j in range(10):
        child[j] = sums[j]
    parent -= child
    if parent[0] < 1e-9:  # what rounding leaves
        parent[:] = 0
    return first, end


@kernel
def refine(samples, weight, mixture, total):  # type: ignore[no-untyped-def]  # numba infers
    """Assign each sample to the component of greatest density, its share left out, and fit the components again.

    The shares are of `total`.
    """
    moments = np.zeros((len(mixture), 10))
    for i in range(len(samples)):
        if weight[i] > 0:
            x, y, z = samples[i]
            best, greatest = 0, -np.inf
            for k in range(len(mixture)):
                if mixture[k, 0] > 0:
                    density = _log_density(mixture[k], x, y, z)
                    if density > greatest:
                        best, greatest = k, density
            sums = _plus(moments[best], x, y, z, weight[i])
            for j in range(10):
                moments[best, j] = sums[j]
    return _mixture(moments, total)


@kernel
def preference(samples, background, foreground):  # type: ignore[no-untyped-def]  # numba infers
    """Log likelihood of each sample in the foreground less that in the background; 0 where a mixture is empty."""
    result = np.zeros(len(samples))
    if background[:, 0].sum() > 0 and foreground[:, 0].sum() > 0:
        _add_log_likelihood(result, samples, foreground, 1.0)
        _add_log_likelihood(result, samples, background, -1.0)
    return result


@kernel
def _add_log_likelihood(result, samples, mixture, sign):  # type: ignore[no-untyped-def]  # numba infers
    """Add `sign` times the log likelihood, up to the constant that all mixtures share."""
    logs = np.empty((len(mixture), BLOCK))  # of the densities, times the shares
    for begin in range(0, len(samples), BLOCK):
        n = min(BLOCK, len(samples) - begin)
        block = samples[begin : begin + n]
        x, y, z = block[:, 0].copy(), block[:, 1].copy(), block[:, 2].copy()
        for k in range(len(mixture)):
            logs[k] = -np.inf
            if mixture[k, 0] > 0:
                _log_densities(mixture[k], x, y, z, logs[k])
        for i in range(n):
            greatest, total = logs[0, i], 0.0
            for k in range(1, len(mixture)):
                greatest = max(greatest, logs[k, i])
            for k in range(len(mixture)):
                if logs[k, i] == greatest:
                    total += 1.0
                elif logs[k, i] > greatest - NEGLIGIBLE:
                    total += math.exp(logs[k, i] - greatest)
            result[begin + i] += sign * (greatest + math.log(total))


@kernel
def _log_densities(c, x, y, z, out):  # type: ignore[no-untyped-def]  # numba infers
    """Fill `out` with a component's log densities times its share; a loop of its own, so that it is vectorised."""
    factor, mean_x, mean_y, mean_z = c[1] + c[11], c[2], c[3], c[4]
    xx, xy, xz, yy, yz, zz = c[5], c[6], c[7], c[8], c[9], c[10]
    for i in range(len(x)):
        out[i] = factor - 0.5 * _square(x[i] - mean_x, y[i] - mean_y, z[i] - mean_z, xx, xy, xz, yy, yz, zz)


@kernel
def _log_density(c, x, y, z):  # type: ignore[no-untyped-def]  # numba infers
    return c[1] - 0.5 * _square(x - c[2], y - c[3], z - c[4], c[5], c[6], c[7], c[8], c[9], c[10])


@kernel
def _square(x, y, z, xx, xy, xz, yy, yz, zz):  # type: ignore[no-untyped-def]  # numba infers
    """Squared Mahalanobis distance of a difference, by the inverse covariance."""
    return x * (xx * x + 2 * (xy * y + xz * z)) + y * (yy * y + 2 * yz * z) + z * zz * z


@kernel
def _plus(m, x, y, z, w):  # type: ignore[no-untyped-def]  # numba infers
    """Add to moments: sums of weight, x, y, z, xx, xy, xz, yy, yz, zz. A tuple stays in registers."""
    a, b, c = w * x, w * y, w * z
    return (
        m[0] + w, m[1] + a, m[2] + b, m[3] + c,
        m[4] + a * x, m[5] + a * y, m[6] + a * z, m[7] + b * y, m[8] + b * z, m[9] + c * z,
    )  # fmt: skip  # the order of the text


@kernel
def _covariance(m):  # type: ignore[no-untyped-def]  # numba infers
    """Covariance (xx, xy, xz, yy, yz, zz) of a component, regularised."""
    c = np.zeros(6)
    if m[0] > 0:
        x, y, z = m[1] / m[0], m[2] / m[0], m[3] / m[0]
        c[0] = m[4] / m[0] - x * x + REGULARISER
        c[1] = m[5] / m[0] - x * y
        c[2] = m[6] / m[0] - x * z
        c[3] = m[7] / m[0] - y * y + REGULARISER
        c[4] = m[8] / m[0] - y * z
        c[5] = m[9] / m[0] - z * z + REGULARISER
    return c


@kernel
def _main_axis(c):  # type: ignore[no-untyped-def]  # numba infers
    """Largest eigenvalue of a covariance, then its unit eigenvector (cyclic Jacobi rotations)."""
    a = np.array([[c[0], c[1], c[2]], [c[1], c[3], c[4]], [c[2], c[4], c[5]]])
    v = np.eye(3)
    for _ in range(30):
        if a[0, 1] ** 2 + a[0, 2] ** 2 + a[1, 2] ** 2 < 1e-20:
            break
        for p, q in ((0, 1), (0, 2), (1, 2)):
            if a[p, q] == 0:
                continue
            theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
            tangent = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1))
            cos = 1 / math.sqrt(tangent * tangent + 1)
            sin = tangent * cos
            for k in range(3):
                a[k, p], a[k, q] = cos * a[k, p] - sin * a[k, q], sin * a[k, p] + cos * a[k, q]
            for k in range(3):
                a[p, k], a[q, k] = cos * a[p, k] - sin * a[q, k], sin * a[p, k] + cos * a[q, k]
            for k in range(3):
                v[k, p], v[k, q] = cos * v[k, p] - sin * v[k, q], sin * v[k, p] + cos * v[k, q]
    best = 0
    for k in range(1, 3):
        if a[k, k] > a[best, best]:
            best = k
    return np.array([a[best, best], v[0, best], v[1, best], v[2, best]])


@kernel
def _mixture(moments, total):  # type: ignore[no-untyped-def]  # numba infers
    result = np.zeros((len(moments), 12))
    for k in range(len(moments)):
        if moments[k, 0] <= 0:
            continue
        xx, xy, xz, yy, yz, zz = _covariance(moments[k])
        cofactor_x, cofactor_y, cofactor_z = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        det = xx * cofactor_x + xy * cofactor_y + xz * cofactor_z
        if det <= 0:  # only by rounding
            continue
        r = result[k]
        r[0] = moments[k, 0] / total
        r[1] = -0.5 * math.log(det)
        r[2:5] = moments[k, 1:4] / moments[k, 0]
        r[5], r[6], r[7] = cofactor_x / det, cofactor_y / det, cofactor_z / det
        r[8], r[9], r[10] = (xx * zz - xz * xz) / det, (xy * xz - xx * yz) / det, (xx * yy - xy * xy) / det
        r[11] = math.log(r[0])
    return result

// Times oneDNN's single-precision products: products SECONDS MxKxN... prints {"MxKxN form": GFLOP/s, ...}.
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static float sign(long p) { return p * p % 11 < 5 ? -1 : 1; }

int main(int argc, char **argv) {
	if (argc > 1 && !strcmp(argv[1], "version")) {
		const dnnl_version_t *v = dnnl_version();
		printf("%d.%d.%d\n", v->major, v->minor, v->patch);
		return 0;
	}
	double seconds = atof(argv[1]);
	const char *sep = "{";
	for (int s = 2; s < argc; s++) {
		long m, k, n;
		if (sscanf(argv[s], "%ldx%ldx%ld", &m, &k, &n) != 3) return 2;
		for (int form = 0; form < 3; form++) {
			int at = form == 2, bt = form == 1;
			float *a = aligned_alloc(64, (4 * m * k + 63) / 64 * 64), *b = aligned_alloc(64, (4 * k * n + 63) / 64 * 64),
			      *c = aligned_alloc(64, (4 * m * n + 63) / 64 * 64);
			for (long p = 0; p < k; p++) {
				for (long i = 0; i < m; i++) a[at ? p * m + i : i * k + p] = (i % 7 + 1) * sign(p);
				for (long j = 0; j < n; j++) b[bt ? j * k + p : p * n + j] = (j % 11 + 1) * sign(p);
			}
			long calls = 1;
			double blocks[7], d;
			for (int block = -1; block < 7;) {
				double t = now();
				for (long i = 0; i < calls; i++)
					if (dnnl_sgemm(at ? 'T' : 'N', bt ? 'T' : 'N', m, n, k, 1, a, at ? m : k, b, bt ? k : n, 0, c, n) != dnnl_success) return 1;
				d = now() - t;
				if (block >= 0)
					blocks[block++] = d / calls;
				else if (d >= seconds / 7)
					block = 0;
				else {
					double more = seconds / 7 / (d + 1e-9);
					calls = calls * (more < 16 ? more : 16) + 1;
				}
			}
			for (long i = 0; i < m; i++)
				for (long j = 0; j < n; j++)
					if (c[i * n + j] != (float)k * (i % 7 + 1) * (j % 11 + 1)) {
						fprintf(stderr, "oneDNN: %s: element %ld, %ld is %g\n", argv[s], i, j, c[i * n + j]);
						return 1;
					}
			qsort(blocks, 7, sizeof *blocks, ascending);
			printf("%s\"%s %s\": %.6g", sep, argv[s], form == 0 ? "nn" : form == 1 ? "nt" : "tn", 2.0 * m * k * n / blocks[3] / 1e9);
			sep = ", ";
			free(a), free(b), free(c);
		}
	}
	printf("}\n");
	return 0;
}

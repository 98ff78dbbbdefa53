// The bound that memory bandwidth sets for an all-reduce in shared memory: bandwidth CORES VECTORS BYTES prints
// microseconds.
//
// Whoever sums VECTORS vectors in place must read each element of each once and write it once. CORES processes do just
// that, each on its own share of the elements of all vectors, in memory that they share, again and again without ever
// waiting for one another. The answer is the median time of a pass, of the slowest process.
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { passes = 15, most = 64 };

struct shared {
	_Atomic int ready;
	double took[most][passes];
};

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

// sum adds elements lo to hi of two or of four vectors and leaves the sum in each.
static void sum(float **v, int vectors, long lo, long hi) {
	float *restrict a = v[0], *restrict b = v[1];
	if (vectors == 2) {
		for (long i = lo; i < hi; i++) a[i] = b[i] = a[i] + b[i];
		return;
	}
	float *restrict c = v[2], *restrict d = v[3];
	for (long i = lo; i < hi; i++) a[i] = b[i] = c[i] = d[i] = (a[i] + b[i]) + (c[i] + d[i]);
}

int main(int argc, char **argv) {
	int cores = atoi(argv[1]), vectors = atoi(argv[2]);
	long n = atol(argv[3]) / 4;
	if (argc != 4 || cores < 1 || cores > most || (vectors != 2 && vectors != 4)) return 2;
	struct shared *s = mmap(0, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	float *v[4];
	for (int k = 0; k < vectors; k++) {
		v[k] = mmap(0, 4 * n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		for (long i = 0; i < n; i++) v[k][i] = (k + 1) * (i % 509);
	}
	for (int c = 0; c < cores; c++) {
		if (fork()) continue;
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(c, &one);
		sched_setaffinity(0, sizeof one, &one);
		long lo = n / cores * c, hi = c == cores - 1 ? n : lo + n / cores;
		sum(v, vectors, lo, hi);
		for (long i = lo; i < hi; i++)
			for (int k = 0; k < vectors; k++)
				if (v[k][i] != vectors * (vectors + 1) / 2 * (i % 509)) _exit(1);
		for (int k = 0; k < vectors; k++)
			for (long i = lo; i < hi; i++) v[k][i] = 0;
		s->ready++;
		while (s->ready < cores) sched_yield();
		for (int p = 0; p < passes; p++) {
			double t = now();
			sum(v, vectors, lo, hi);
			s->took[c][p] = now() - t;
		}
		_exit(0);
	}
	for (int c = 0, how; c < cores; c++)
		if (wait(&how) < 0 || how != 0) {
			fprintf(stderr, "a process ended badly, or summed wrong\n");
			return 1;
		}
	double worst = 0;
	for (int c = 0; c < cores; c++) {
		qsort(s->took[c], passes, sizeof(double), ascending);
		if (s->took[c][passes / 2] > worst) worst = s->took[c][passes / 2];
	}
	printf("%.6g\n", 1e6 * worst);
	return 0;
}

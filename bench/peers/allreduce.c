// Times MPI's all-reduce of floats, in place: allreduce SECONDS BLOCKS BYTES... prints {"BYTES": microseconds, ...}.
//
// It measures as covey bench does: it checks a sum, then repeats blocks of calls, each begun by a barrier and as long as
// its slowest rank, and takes the median block.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static int rank, ranks;

static void call(float *x, int n) { MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); }

static void check(float *x, int n) {
	for (int i = 0; i < n; i++) x[i] = (rank + 1) * (i % 509 + 1);
	call(x, n);
	for (int i = 0; i < n; i++)
		if (x[i] != ranks * (ranks + 1) / 2 * (i % 509 + 1)) {
			fprintf(stderr, "rank %d: element %d is %g\n", rank, i, x[i]);
			MPI_Abort(MPI_COMM_WORLD, 1);
		}
	memset(x, 0, 4 * (size_t)n); // sums of zeros stay what they are
}

static double block(float *x, int n, long calls) {
	MPI_Barrier(MPI_COMM_WORLD);
	double t = MPI_Wtime();
	for (long i = 0; i < calls; i++) call(x, n);
	return MPI_Wtime() - t;
}

int main(int argc, char **argv) {
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	if (argc == 2 && !strcmp(argv[1], "version")) {
		char text[MPI_MAX_LIBRARY_VERSION_STRING];
		int n;
		MPI_Get_library_version(text, &n);
		if (rank == 0) printf("%s\n", text);
		return MPI_Finalize();
	}
	double share = atof(argv[1]);
	int blocks = atoi(argv[2]);
	share /= blocks;
	double *took = malloc(blocks * sizeof *took);
	for (int a = 3; a < argc; a++) {
		int n = atol(argv[a]) / 4;
		float *x;
		if (posix_memalign((void **)&x, 4096, 4 * (size_t)n)) return 1;
		check(x, n);
		for (long calls = 1, next = 1; next; calls = next ? next : calls) {
			double d = block(x, n, calls), more = share / (d + 1e-9);
			next = d >= share ? 0 : (long)(calls * (more < 16 ? more : 16)) + 1;
			MPI_Bcast(&next, 1, MPI_LONG, 0, MPI_COMM_WORLD);
			if (next) continue;
			for (int i = 0; i < blocks; i++) took[i] = block(x, n, calls) / calls;
			break;
		}
		MPI_Allreduce(MPI_IN_PLACE, took, blocks, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
		check(x, n);
		qsort(took, blocks, sizeof *took, ascending);
		if (rank == 0) printf("%s\"%s\": %.6g", a == 3 ? "{" : ", ", argv[a], 1e6 * (took[(blocks - 1) / 2] + took[blocks / 2]) / 2);
		free(x);
	}
	if (rank == 0) printf("}\n");
	return MPI_Finalize();
}

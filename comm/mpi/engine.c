//go:build mpi && cgo

#define _GNU_SOURCE
#include "engine.h"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static MPI_Comm world;

// flight is a frame that the library holds: on its way out, or in.
typedef struct {
	int kind, code, source, tag, size, over;
	unsigned char *buf;
	uint64_t owner;
} flight;

// Those under way, oldest first, and their requests in the same places.
static flight *flights;
static MPI_Request *requests;
static MPI_Status *statuses;
static int *indices;
static int flying, coming, allocated;

// cominglimit is how many frames are taken from the library before one of them is whole.
enum { cominglimit = 256 };

static MPI_Request meeting = MPI_REQUEST_NULL;

int covey_init(int *given, int *rank, int *size, int *tags) {
	// A library may install handlers for signals that Go's runtime needs, and without their own stack, which its threads
	// do not survive. What was there is put back.
	struct sigaction before[NSIG], now;
	int known[NSIG] = {0}, begun = 0, code, flag, *most;
	MPI_Initialized(&begun);
	if (begun) return MPI_ERR_OTHER;
	for (int s = 1; s < NSIG; s++) known[s] = sigaction(s, NULL, &before[s]) == 0;
	code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, given);
	for (int s = 1; s < NSIG; s++)
		if (known[s] && sigaction(s, NULL, &now) == 0 && now.sa_handler != before[s].sa_handler) sigaction(s, &before[s], NULL);
	if (code) return code;
	MPI_Query_thread(given);
	*given = *given == MPI_THREAD_MULTIPLE ? 3 : *given == MPI_THREAD_SERIALIZED ? 2 : *given == MPI_THREAD_FUNNELED ? 1 : 0;
	if ((code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN))) return code;
	if ((code = MPI_Comm_dup(MPI_COMM_WORLD, &world))) return code;
	if ((code = MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN))) return code;
	if ((code = MPI_Comm_get_attr(world, MPI_TAG_UB, &most, &flag))) return code;
	*tags = flag ? *most : 32767;
	if ((code = MPI_Comm_rank(world, rank))) return code;
	return MPI_Comm_size(world, size);
}

int covey_finalize(void) {
	// What is still under way to a process that is gone would be waited for. The process ends anyway.
	return MPI_Finalize();
}

int covey_hosts(char *names, int room) {
	char name[MPI_MAX_PROCESSOR_NAME] = "", mine[room];
	int n, code = MPI_Get_processor_name(name, &n);
	if (code) return code;
	memset(mine, 0, room);
	strncpy(mine, name, room - 1);
	return MPI_Allgather(mine, room, MPI_BYTE, names, room, MPI_BYTE, world);
}

// Buffers are kept by class, powers of two from 256 bytes to 512 KiB; the class stands before the buffer.
enum { before = 64, smallest = 8, classes = 12, keepbytes = 32 << 20 };
static unsigned char *idle[classes];
static long kept;

unsigned char *covey_take(int n) {
	int class = 0;
	while (class < classes && n > 1 << (class + smallest)) class++;
	if (class < classes && idle[class]) {
		unsigned char *buf = idle[class];
		memcpy(&idle[class], buf, sizeof buf);
		kept -= 1L << (class + smallest);
		return buf;
	}
	unsigned char *at = malloc(before + (class < classes ? (size_t)1 << (class + smallest) : (size_t)n));
	if (!at) return NULL;
	*(int *)at = class;
	return at + before;
}

void covey_give(unsigned char *buf) {
	if (!buf) return;
	int class = *(int *)(buf - before);
	if (class == classes || kept >= keepbytes) {
		free(buf - before);
		return;
	}
	memcpy(buf, &idle[class], sizeof buf);
	idle[class] = buf;
	kept += 1L << (class + smallest);
}

// lift makes room for one more flight.
static flight *lift(void) {
	if (flying == allocated) {
		int n = allocated ? 2 * allocated : 256;
		void *f = realloc(flights, n * sizeof *flights);
		if (f) flights = f;
		void *r = realloc(requests, n * sizeof *requests);
		if (r) requests = r;
		void *s = realloc(statuses, n * sizeof *statuses);
		if (s) statuses = s;
		void *i = realloc(indices, n * sizeof *indices);
		if (i) indices = i;
		if (!f || !r || !s || !i) return NULL;
		allocated = n;
	}
	memset(&flights[flying], 0, sizeof *flights);
	requests[flying] = MPI_REQUEST_NULL;
	return &flights[flying];
}

int covey_send(unsigned char *buf, int n, int to, int tag, uint64_t owner) {
	flight *f = lift();
	int code = f ? MPI_Isend(buf, n, MPI_BYTE, to, tag, world, &requests[flying]) : MPI_ERR_NO_MEM;
	if (code) {
		covey_give(buf);
		return code;
	}
	f->kind = COVEY_SENT, f->tag = tag, f->buf = buf, f->owner = owner;
	flying++;
	return MPI_SUCCESS;
}

// first tells whether no frame of the same source and tag came before number i and is not whole.
static int first(int i) {
	for (int j = 0; j < i; j++)
		if (flights[j].kind == COVEY_CAME && !flights[j].over && flights[j].source == flights[i].source && flights[j].tag == flights[i].tag) return 0;
	return 1;
}

int covey_pass(covey_event *events, int room, int *n) {
	int code;
	*n = 0;
	while (coming < cominglimit) {
		int flag = 0, size = 0;
		MPI_Message message;
		MPI_Status status;
		if ((code = MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, world, &flag, &message, &status))) return code;
		if (!flag) break;
		if ((code = MPI_Get_count(&status, MPI_BYTE, &size))) return code;
		flight *f = lift();
		unsigned char *buf = f ? covey_take(size) : NULL;
		if (!buf) return MPI_ERR_NO_MEM;
		f->kind = COVEY_CAME, f->source = status.MPI_SOURCE, f->tag = status.MPI_TAG, f->size = size, f->buf = buf;
		if ((code = MPI_Imrecv(buf, size, MPI_BYTE, &message, &requests[flying]))) return code;
		flying++, coming++;
	}
	if (!flying) return MPI_SUCCESS;
	int whole = 0;
	code = MPI_Testsome(flying, requests, &whole, indices, statuses);
	if (code && code != MPI_ERR_IN_STATUS) return code;
	if (whole == MPI_UNDEFINED) whole = 0;
	for (int i = 0; i < whole; i++) {
		flights[indices[i]].over = 1;
		flights[indices[i]].code = code ? statuses[i].MPI_ERROR : MPI_SUCCESS;
	}
	int stay = 0;
	for (int i = 0; i < flying; i++) {
		flight *f = &flights[i];
		if (!f->over || *n == room || (f->kind == COVEY_CAME && !first(i))) {
			// Those that stay are moved down later: first looks at the ones before.
			continue;
		}
		covey_event *e = &events[(*n)++];
		e->kind = f->kind, e->code = f->code, e->source = f->source, e->tag = f->tag, e->size = f->size, e->owner = f->owner;
		e->buf = NULL;
		if (f->kind == COVEY_CAME) {
			e->buf = f->buf;
			coming--;
		} else {
			covey_give(f->buf);
		}
		f->buf = NULL; // it has gone
	}
	if (*n == 0) return MPI_SUCCESS;
	for (int i = 0; i < flying; i++) {
		if (!flights[i].buf) continue;
		if (stay < i) flights[stay] = flights[i], requests[stay] = requests[i];
		stay++;
	}
	flying = stay;
	return MPI_SUCCESS;
}

int covey_sum(unsigned char *buf, int n) {
	return MPI_Iallreduce(MPI_IN_PLACE, buf, n, MPI_FLOAT, MPI_SUM, world, &meeting);
}

int covey_meet(void) { return MPI_Ibarrier(world, &meeting); }

int covey_met(int *over) { return MPI_Test(&meeting, over, MPI_STATUS_IGNORE); }

void covey_say(int code, char *text, int room) {
	char words[MPI_MAX_ERROR_STRING] = "";
	int n = 0;
	if (MPI_Error_string(code, words, &n)) n = 0;
	words[MPI_MAX_ERROR_STRING - 1] = 0;
	strncpy(text, words, room - 1);
	text[room - 1] = 0;
}

void covey_library(char *text, int room) {
	char words[MPI_MAX_LIBRARY_VERSION_STRING] = "";
	int n = 0;
	MPI_Get_library_version(words, &n);
	words[MPI_MAX_LIBRARY_VERSION_STRING - 1] = 0;
	strncpy(text, words, room - 1);
	text[room - 1] = 0;
}

void covey_yield(void) { sched_yield(); }

void covey_nap(int microseconds) {
	struct timespec t = {0, 1000L * microseconds};
	nanosleep(&t, NULL);
}

// What package mpi asks of libmpi, in calls that return at once. All but the first and the last need the caller to hold
// a lock.

#include <stdint.h>

enum { COVEY_SENT, COVEY_CAME };

typedef struct {
	int kind;           // COVEY_SENT or COVEY_CAME
	int code;           // MPI's error, 0 for none
	int source, tag;    // of what came
	int size;           // bytes of it
	unsigned char *buf; // it; the caller's until covey_give
	uint64_t owner;     // of what was sent, as given to covey_send
} covey_event;

// covey_init begins the library on the thread that will also end it, and duplicates the communicator of all processes.
// given is the level of threads: 0 single, 1 funneled, 2 serialized, 3 multiple.
int covey_init(int *given, int *rank, int *size, int *tags);
int covey_finalize(void);

// covey_hosts fills names, of size entries of room bytes each, with the name of every process's host. It waits for all.
int covey_hosts(char *names, int room);

// covey_take gives a buffer of at least n bytes, or NULL.
unsigned char *covey_take(int n);
void covey_give(unsigned char *buf);

// covey_send begins to send a buffer that covey_take gave, which is the library's from then on, whatever is returned.
int covey_send(unsigned char *buf, int n, int to, int tag, uint64_t owner);

// covey_pass looks at what has come and gone, once, and fills in events: of one source and tag in order.
int covey_pass(covey_event *events, int room, int *n);

// covey_sum and covey_meet begin a sum in place and a barrier of all processes, one of either at a time; covey_met
// tells whether it is over.
int covey_sum(unsigned char *buf, int n);
int covey_meet(void);
int covey_met(int *over);

// covey_say puts the words for an error code in text, of room bytes.
void covey_say(int code, char *text, int room);

// covey_library names the library.
void covey_library(char *text, int room);

// covey_yield gives way to other threads; covey_nap sleeps.
void covey_yield(void);
void covey_nap(int microseconds);

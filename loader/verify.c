/*
 * Full verification: tables on the calling thread, then payloads by jobs on several.
 * A job is a section, a weight (checksums and values of its planes, while they are in the
 * cache) or a plane that no weight uses; weights go in the order of their planes, so a
 * file is read once and forwards.  Spec: spec/container.md, section 8.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "verify.h"

#include "checksum.h"
#include "frame_zstd.h"
#include "term.h"

#include <stdlib.h>
#include <unistd.h>

enum { MAX_THREADS = 16, PIECE_NBYTES = 8 << 20 };

/* ---- faults ---- */

static int compare_faults(const struct pith_error *a, const struct pith_error *b)
{
	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	int order = strcmp(a->rule, b->rule);
	return order != 0 ? order : strcmp(a->msg, b->msg);
}

void pith_fault_add(struct pith_fault_list *faults, const struct pith_error *fault)
{
	pthread_mutex_lock(&faults->lock);
	size_t i = faults->kept_count;
	while (i > 0 && compare_faults(&faults->kept[i - 1], fault) > 0)
		i--;
	/* the same fault may be met from two sides */
	if (i == 0 || compare_faults(&faults->kept[i - 1], fault) != 0) {
		faults->total++;
		if (faults->kept_count < PITH_KEPT_FAULTS)
			faults->kept_count++;
		if (i < PITH_KEPT_FAULTS) {
			memmove(&faults->kept[i + 1], &faults->kept[i],
			        (faults->kept_count - i - 1) * sizeof(*fault));
			faults->kept[i] = *fault;
		}
	}
	pthread_mutex_unlock(&faults->lock);
}

/* ---- jobs ---- */

enum job_kind { JOB_SECTION, JOB_OLDER_SECTION, JOB_WEIGHT, JOB_PLANE };
struct job {
	enum job_kind kind;
	uint32_t index;
	uint64_t off; /* where it starts to read */
};

struct work {
	struct pith_verify *v;
	const struct pith_verify_options *options;
	struct job *jobs;
	size_t job_count;
	uint64_t total; /* bytes to hash */
	atomic_size_t next;
	atomic_uint_fast64_t done;
	atomic_int status; /* first failure that is not a fault of the file */
};

struct worker {
	struct work *work;
	struct pith_xxh3 *hash;
	bool is_caller;
};

static void advance(struct worker *worker, uint64_t nbytes)
{
	struct work *work = worker->work;
	uint64_t done = atomic_fetch_add(&work->done, nbytes) + nbytes;
	const struct pith_verify_options *o = work->options;
	if (worker->is_caller && o->progress != NULL)
		o->progress(o->ctx, done, work->total);
}

static uint64_t hash_in_pieces(struct worker *worker, const uint8_t *data, uint64_t nbytes)
{
	pith_xxh3_reset_64(worker->hash);
	while (nbytes != 0) {
		size_t piece = nbytes < PIECE_NBYTES ? (size_t)nbytes : PIECE_NBYTES;
		pith_xxh3_update_64(worker->hash, data, piece);
		data += piece;
		nbytes -= piece;
		advance(worker, piece);
	}
	return pith_xxh3_digest_64(worker->hash);
}

static pith_status verify_section(struct worker *worker, const struct pith_directory_entry *e,
                                  struct pith_error *err)
{
	const uint8_t *data = worker->work->v->file->data;
	pith_status status = pith_section_verify(data, e, err);
	if (status == PITH_OK && e->encoding == PITH_ENCODING_ZSTD)
		status = pith_frame_verify(data + e->off, (size_t)e->nbytes, e->raw_nbytes, e->off,
		                           err);
	advance(worker, pith_round_up((size_t)e->nbytes, PITH_ALIGN));
	return status;
}

static pith_status verify_plane(struct worker *worker, uint64_t index,
                                const struct pith_weight *weight, struct pith_error *err)
{
	struct pith_verify *v = worker->work->v;
	struct pith_plane_entry plane;
	if (!v->hashed[index] || pith_file_plane(v->file, index, &plane, err) != PITH_OK)
		return PITH_OK; /* another entry's job, or reported with the tables */
	if (hash_in_pieces(worker, v->file->data + plane.off, plane.nbytes) == plane.xxh3)
		return PITH_OK;
	return pith_plane_fail(weight, &plane, err);
}

/* Planes of this weight's own: hashed here and nowhere else. */
static pith_status verify_own_planes(struct worker *worker, const struct pith_weight *weight,
                                     uint32_t first, uint32_t count, struct pith_error *err)
{
	struct pith_verify *v = worker->work->v;
	uint64_t plane_count = v->file->tables.plan.count;
	for (uint64_t p = first; p < (uint64_t)first + count && p < plane_count; p++)
		if (v->owner[p] == weight->index)
			PITH_TRY(pith_verify_note(v, verify_plane(worker, p, weight, err), err));
	return PITH_OK;
}

static pith_status verify_transform(struct worker *worker, const struct pith_weight *weight,
                                    size_t i, struct pith_error *err)
{
	const struct pith_table *t = &worker->work->v->file->tables.xfrm;
	struct pith_transform_entry e;
	struct pith_transform transform;
	uint64_t at = weight->first_transform + (uint64_t)i;
	if (pith_transform_entry_decode(pith_table_at(t, PITH_XFRM_NBYTES, at), 0, &e, NULL) ==
	    PITH_OK)
		PITH_TRY(verify_own_planes(worker, weight, e.first_plane, e.plane_count, err));
	PITH_TRY(pith_weight_transform(weight, i, &transform, err));
	return pith_transform_verify(&transform, err);
}

static pith_status verify_term(struct worker *worker, const struct pith_weight *weight, size_t i,
                               struct pith_error *err)
{
	const struct pith_table *t = &worker->work->v->file->tables.term;
	struct pith_term_entry e;
	struct pith_term term;
	uint64_t at = weight->first_term + (uint64_t)i;
	if (pith_term_entry_decode(pith_table_at(t, PITH_TERM_NBYTES, at), 0, &e, NULL) == PITH_OK)
		PITH_TRY(verify_own_planes(worker, weight, e.first_plane, e.plane_count, err));
	PITH_TRY(pith_weight_term(weight, i, &term, err));
	return pith_term_verify(&term, err);
}

static pith_status verify_weight(struct worker *worker, size_t index, struct pith_error *err)
{
	struct pith_verify *v = worker->work->v;
	struct pith_weight weight;
	if (pith_file_weight_at(v->file, index, &weight, err) != PITH_OK)
		return PITH_OK; /* reported with the tables */
	for (size_t i = 0; i < weight.transform_count; i++)
		PITH_TRY(pith_verify_note(v, verify_transform(worker, &weight, i, err), err));
	for (size_t i = 0; i < weight.term_count; i++)
		PITH_TRY(pith_verify_note(v, verify_term(worker, &weight, i, err), err));
	return PITH_OK;
}

static pith_status run_job(struct worker *worker, const struct job *job, struct pith_error *err)
{
	struct pith_verify *v = worker->work->v;
	static const struct pith_weight no_weight = { .name = "(none)", .name_nbytes = 6 };
	pith_status status = PITH_OK;
	switch (job->kind) {
	case JOB_SECTION:
		status = verify_section(worker, &v->file->directory[job->index], err);
		break;
	case JOB_OLDER_SECTION:
		status = verify_section(worker, &v->older_directory[job->index], err);
		break;
	case JOB_WEIGHT:
		status = verify_weight(worker, job->index, err);
		break;
	case JOB_PLANE:
		status = verify_plane(worker, job->index, &no_weight, err);
		break;
	}
	return pith_verify_note(v, status, err);
}

static void *run_jobs(void *arg)
{
	struct worker *worker = arg;
	struct work *work = worker->work;
	struct pith_error fault;
	while (atomic_load(&work->status) == PITH_OK) {
		size_t i = atomic_fetch_add(&work->next, 1);
		if (i >= work->job_count)
			break;
		pith_status status = run_job(worker, &work->jobs[i], &fault);
		if (status != PITH_OK)
			atomic_store(&work->status, (int)status);
	}
	return NULL;
}

/* ---- the list of jobs ---- */

static void add_job(struct work *work, enum job_kind kind, uint64_t index, uint64_t off)
{
	work->jobs[work->job_count++] = (struct job){ kind, (uint32_t)index, off };
}

static bool is_current_section(const struct pith_file *file, const struct pith_directory_entry *e)
{
	size_t i = pith_file_section_index(file, e->section_id);
	return i < file->header.directory_count && file->directory[i].off == e->off &&
	       file->directory[i].nbytes == e->nbytes && file->directory[i].xxh3 == e->xxh3;
}

static void list_sections(struct work *work)
{
	const struct pith_file *file = work->v->file;
	for (uint32_t i = 0; i < file->header.directory_count; i++) {
		const struct pith_directory_entry *e = &file->directory[i];
		add_job(work, JOB_SECTION, i, e->off);
		work->total += pith_round_up((size_t)e->nbytes, PITH_ALIGN);
	}
	for (uint32_t i = 0; work->v->has_older && i < work->v->older.directory_count; i++) {
		const struct pith_directory_entry *e = &work->v->older_directory[i];
		if (is_current_section(file, e))
			continue;
		add_job(work, JOB_OLDER_SECTION, i, e->off);
		work->total += pith_round_up((size_t)e->nbytes, PITH_ALIGN);
	}
}

/* 'first' holds, for every weight, the least offset of its planes. */
static void list_payloads(struct work *work, uint64_t *first)
{
	const struct pith_file *file = work->v->file;
	for (uint64_t i = 0; i < file->tables.wght.count; i++)
		first[i] = file->nbytes;
	for (uint64_t i = 0; i < file->tables.plan.count; i++) {
		struct pith_plane_entry e;
		uint32_t owner = work->v->owner[i];
		if (pith_file_plane(file, i, &e, NULL) != PITH_OK)
			continue;
		if (work->v->hashed[i])
			work->total += e.nbytes;
		if (owner == PITH_NO_OWNER)
			add_job(work, JOB_PLANE, i, e.off);
		else if (e.off < first[owner])
			first[owner] = e.off;
	}
	for (uint64_t i = 0; i < file->tables.wght.count; i++)
		add_job(work, JOB_WEIGHT, i, first[i]);
}

static int compare_jobs(const void *a, const void *b)
{
	const struct job *x = a, *y = b;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static pith_status list_jobs(struct work *work, struct pith_error *err)
{
	const struct pith_tables *t = &work->v->file->tables;
	size_t jobs_nbytes, weights = (size_t)t->wght.count;
	size_t cap = weights + (size_t)t->plan.count + 2 * PITH_MAX_DIRECTORY_COUNT;
	uint64_t *first = calloc(weights + 1, sizeof(*first));
	if (pith_mul_size(cap, sizeof(*work->jobs), &jobs_nbytes))
		work->jobs = malloc(jobs_nbytes);
	if (first == NULL || work->jobs == NULL) {
		free(first);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to verify %zu weights", weights);
	}
	list_sections(work);
	list_payloads(work, first);
	qsort(work->jobs, work->job_count, sizeof(*work->jobs), compare_jobs);
	free(first);
	return PITH_OK;
}

/* ---- threads ---- */

static size_t thread_count(const struct work *work)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	size_t threads = work->options->threads != 0 ? work->options->threads :
	                 online > 0                  ? (size_t)online : 1;
	threads = threads < MAX_THREADS ? threads : MAX_THREADS;
	return threads < work->job_count ? threads : work->job_count;
}

/* The caller works too; fewer threads than asked for only cost time. */
static pith_status run_threads(struct work *work, struct pith_error *err)
{
	pthread_t thread[MAX_THREADS];
	struct worker worker[MAX_THREADS];
	size_t wanted = thread_count(work), started = 0;
	for (size_t i = 0; i < wanted; i++) {
		worker[i] = (struct worker){ .work = work, .is_caller = i == 0 };
		worker[i].hash = pith_xxh3_new();
		if (worker[i].hash == NULL)
			break;
		if (i > 0 && pthread_create(&thread[i], NULL, run_jobs, &worker[i]) != 0) {
			pith_xxh3_free(worker[i].hash);
			break;
		}
		started = i + 1;
	}
	if (started == 0)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to verify");
	run_jobs(&worker[0]);
	for (size_t i = 1; i < started; i++)
		pthread_join(thread[i], NULL);
	for (size_t i = 0; i < started; i++)
		pith_xxh3_free(worker[i].hash);
	int status = atomic_load(&work->status);
	if (status != PITH_OK)
		return pith_fail(err, (pith_status)status, PITH_NO_OFF, NULL,
		                 "verification stopped: %s",
		                 pith_status_name((pith_status)status));
	if (work->options->progress != NULL)
		work->options->progress(work->options->ctx, work->total, work->total);
	return PITH_OK;
}

static pith_status verify_payloads(struct pith_verify *v,
                                   const struct pith_verify_options *options,
                                   struct pith_error *err)
{
	struct work work = { .v = v, .options = options };
	atomic_init(&work.next, 0);
	atomic_init(&work.done, 0);
	atomic_init(&work.status, PITH_OK);
	pith_status status = list_jobs(&work, err);
	if (status == PITH_OK)
		status = run_threads(&work, err);
	free(work.jobs);
	return status;
}

/* ---- the whole ---- */

static pith_status verify_all(struct pith_verify *v, const struct pith_verify_options *options,
                              struct pith_error *err)
{
	size_t plane_count = (size_t)v->file->tables.plan.count;
	v->owner = calloc(plane_count + 1, sizeof(*v->owner));
	v->hashed = calloc(plane_count + 1, sizeof(*v->hashed));
	if (v->owner == NULL || v->hashed == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to verify %zu planes", plane_count);
	for (size_t i = 0; i < plane_count; i++)
		v->owner[i] = PITH_NO_OWNER;
	PITH_TRY(pith_verify_slots(v, err));
	PITH_TRY(pith_verify_tables(v, err));
	PITH_TRY(pith_verify_extents(v, err));
	PITH_TRY(verify_payloads(v, options, err));
	return pith_verify_identity(v, err);
}

static pith_status report(const struct pith_fault_list *faults,
                          const struct pith_verify_options *options, size_t *fault_count,
                          struct pith_error *err)
{
	if (fault_count != NULL)
		*fault_count = faults->total;
	for (size_t i = 0; i < faults->kept_count && options->fault != NULL; i++)
		options->fault(options->ctx, &faults->kept[i]);
	if (faults->kept_count == 0)
		return PITH_OK;
	if (err != NULL)
		*err = faults->kept[0];
	return faults->kept[0].status;
}

pith_status pith_file_verify(const struct pith_file *file, const struct pith_verify_options *options,
                             size_t *fault_count, struct pith_error *err)
{
	static const struct pith_verify_options defaults;
	struct pith_error scratch; /* faults pass through here, also when the caller wants none */
	if (fault_count != NULL)
		*fault_count = 0;
	if (options == NULL)
		options = &defaults;
	struct pith_verify *v = calloc(1, sizeof(*v));
	if (v == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to verify");
	v->file = file;
	if (pthread_mutex_init(&v->faults.lock, NULL) != 0) {
		free(v);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to verify");
	}
	pith_status status = verify_all(v, options, &scratch);
	if (status == PITH_OK)
		status = report(&v->faults, options, fault_count, err);
	else if (err != NULL)
		*err = scratch;
	pthread_mutex_destroy(&v->faults.lock);
	free(v->owner);
	free(v->hashed);
	free(v);
	return status;
}

/*
 * The fencing argument of high availability (ARCHITECTURE.md, docs/HA.md) as a model for spin.
 *
 * Node A holds its lock and runs the guest; B and C are managers, one of which takes the lock over and recovers the guest
 * on its own node. Everything between the clocks may take any time: each process may stand still between any two
 * statements, messages are lost or late by as much, and a network cut is a message that is never delivered. Two
 * things keep time: the watchdog, which is hardware, and the clocks.
 *
 * Time is counted in ticks, and never absolute: ages that saturate. Clocks drift: each manager's may gain one tick while
 * it waits (that is what the margin is for).
 *
 * Safety: the guest never runs twice (the assertions in start_on() and in ticks).
 * Liveness (LIVE): when faults have ended and nobody stands still any more, the guest runs.
 *
 * Each of the premises can be taken away: NO_FRESHNESS, NO_WATCHDOG, NO_WAIT, NO_COMPARE, NO_FACTOR_2, NO_WRITE_COMPARE.
 * Without any one of them the check fails: test_model.py shows it.
 */
#define HORIZON 1  /* a renewal that began so many ticks ago feeds nothing */
#define WATCHDOG 3 /* ticks from the last feed to the reset */
#define MARGIN 1
#define DRIFT 1    /* ticks that a manager's clock may gain while it waits */

#ifdef NO_FACTOR_2
#define LEASE_WAIT (HORIZON + WATCHDOG + MARGIN)
#else
#ifdef NO_WAIT
#define LEASE_WAIT 1
#else
#define LEASE_WAIT (HORIZON + 2 * WATCHDOG + MARGIN)
#endif
#endif

#define FREE 0
#define HELD 1  /* by A */
#define TAKEN 2 /* by a manager */

/* --- the tree: every access is one transaction --- */
byte lock = HELD;
bool changed[2]; /* A has renewed it since that manager saw it: its revision is another */

/* --- node A --- */
bool a_alive = true;
bool a_runs = true;        /* the guest */
byte confirmed_age = 0;    /* ticks since the last confirmed renewal began */
bool asked = false;        /* a renewal is on its way */
byte asked_age = 0;        /* ticks since it began */
bool answered = false;     /* its answer is on its way */
bool feed_sent = false;    /* a feed is on its way to the multiplexer */
byte feed_age = 0;         /* ticks since the renewal began on which it was decided */
bool feed_checked = false; /* the multiplexer has looked at the clock, and is about to write */
byte dog = 0;              /* ticks since the device was fed */

/* --- the managers --- */
bool b_runs = false;
bool c_runs = false;
byte waited[2];   /* ticks since the last change that it saw, on its own clock */
byte gained[2];   /* ticks that its clock has gained since then */

/* A write that A began while it held its lock, and that comes late: it hands the guest over to B. */
bool hand_over = false;
byte faults = 1; /* cuts, losses and the like may happen; 0: they have ended */

inline check_once() {
    assert((a_runs -> 1 : 0) + (b_runs -> 1 : 0) + (c_runs -> 1 : 0) <= 1)
}

inline older(age, limit) {
    if
    :: age < limit -> age++
    :: else
    fi
}

/* --- time --- */
proctype clocks()
{
    byte i;
    do
    :: d_step {
        older(confirmed_age, HORIZON);
        older(asked_age, HORIZON);
        older(feed_age, HORIZON);
        i = 0;
        do
        :: i < 2 ->
            older(waited[i], LEASE_WAIT);
            i++
        :: else -> break
        od;
        i = 0;
        if
        :: a_alive && dog < WATCHDOG -> dog++
        :: else
        fi;
#ifndef NO_WATCHDOG
        if
        :: a_alive && dog >= WATCHDOG -> /* the device resets the machine: nothing of it runs any more */
            a_alive = false;
            a_runs = false;
            asked = (asked && !answered); /* what is on the wire stays there */
            feed_sent = false;
            feed_checked = false
        :: else
        fi
#endif
    }
    od
}

/* A manager's clock may run ahead. */
proctype drift()
{
    byte i;
    do
    :: atomic {
        select(i : 0..1);
        if
        :: gained[i] < DRIFT && waited[i] > 0 && waited[i] < LEASE_WAIT ->
            gained[i]++;
            waited[i]++
        :: else
        fi
    }
    od
}

/* --- node A --- */
proctype agent()
{
    do
    :: a_alive && !asked && !answered -> /* begins a renewal */
        atomic {
            if
            :: a_alive ->
                asked = true;
                asked_age = 0
            :: else
            fi
        }
    :: a_alive && answered -> /* the answer is read: it counts from when the renewal BEGAN */
        atomic {
            if
            :: a_alive ->
                answered = false;
                asked = false;
                confirmed_age = asked_age
            :: else
            fi
        }
    :: a_alive && asked && !answered && faults > 0 -> /* given up */
        atomic {
            if
            :: a_alive && asked && !answered ->
                asked = false
            :: else
            fi
        }
#ifdef NO_FRESHNESS
    :: a_alive && !feed_sent -> atomic { feed_sent = a_alive; feed_age = 0 }
#else
    :: a_alive && !feed_sent && confirmed_age < HORIZON ->
        atomic {
            feed_sent = a_alive;
            feed_age = confirmed_age
        }
#endif
    od
}

/* The multiplexer: looks at the clock last, and may stand still even then. */
proctype multiplexer()
{
    do
    :: atomic { a_alive && feed_sent && !feed_checked && feed_age < HORIZON -> feed_checked = true }
    :: atomic { a_alive && feed_sent && !feed_checked && feed_age >= HORIZON -> feed_sent = false } /* too late */
    :: atomic { a_alive && feed_checked -> dog = 0; feed_checked = false; feed_sent = false }
    od
}

/* The network and the tree: a request is carried out whenever it comes there, or never. */
proctype network()
{
    do
    :: atomic {
        asked && !answered ->
        if
        :: lock == HELD ->
            changed[0] = true;
            changed[1] = true;
            if
            :: answered = true
            :: faults > 0 -> asked = false /* the answer is lost */
            fi
        :: else -> asked = false /* refused: somebody else wrote */
        fi
    }
    :: atomic { asked && !answered && faults > 0 -> asked = false } /* the request is lost */
    :: atomic { /* A begins to hand the guest over to B */
        a_alive && a_runs && lock == HELD && !hand_over && faults > 0 -> hand_over = true }
    :: atomic { /* it is carried out, late as it may be */
        hand_over ->
        hand_over = false;
        if
#ifdef NO_WRITE_COMPARE
        :: true ->
#else
        :: lock == HELD ->
#endif
            a_runs = false;
            b_runs = true;
            check_once()
        :: else
        fi
    }
    od
}

/* --- managers --- */
inline start_on(me) {
    if
    :: me == 0 -> b_runs = true
    :: else -> c_runs = true
    fi;
    check_once()
}

proctype manager(byte me)
{
    do
    :: lock == HELD && changed[me] -> /* sees a change, some time after it was made */
        atomic {
            changed[me] = false;
            waited[me] = 0;
            gained[me] = 0
        }
    :: lock == HELD && waited[me] >= LEASE_WAIT -> /* decides; what follows may be much later */
        atomic {
            if
#ifdef NO_COMPARE
            :: lock == HELD ->
#else
            :: lock == HELD && !changed[me] ->
#endif
                lock = TAKEN;
                if
                :: !b_runs && !c_runs -> start_on(me)
                :: else /* the guest had been handed over before */
                fi
            :: else -> /* refused: it reads the tree anew */
                changed[me] = false;
                waited[me] = 0;
                gained[me] = 0
            fi
        }
    od
}

/* Faults end some time. */
proctype peace()
{
    faults = 0
}

init {
    atomic {
        run clocks();
        run drift();
        run agent();
        run multiplexer();
        run network();
        run manager(0);
        run manager(1);
        run peace()
    }
}

#ifdef LIVE
/* Whatever has happened: when faults are over the guest runs in the end, and stays. */
ltl lives { <>[] (a_runs || b_runs || c_runs) }
#endif

"""Guards: reasons to slow down or to stop before harm is done.

Promise   each guard says go, slow or stop, with a reason; the strictest one counts, and all are shown
Order     verdict.py compares a value with its limits; disk.py, mta_queue.py and mailman_processes.py measure;
          mailman.py holds what is known of Mailman, beside_runner.py judges its outgoing runner
Not here  who asks the guards, and how often (observe/surroundings.py); what slow and stop do to the feed (feed/)
"""

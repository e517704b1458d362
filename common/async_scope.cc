#include "common/async_scope.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <exception>
#include <utility>

#include "common/check.h"

namespace onggi {

struct AsyncScope::State {
  struct Task {
    explicit Task(boost::asio::any_io_executor e) : executor(std::move(e)) {}
    boost::asio::any_io_executor executor;
    boost::asio::cancellation_signal signal;  // used on `executor` only
  };

  std::mutex mutex;
  std::condition_variable empty;
  std::list<std::shared_ptr<Task>> tasks;  // guarded by mutex
  bool stopping = false;                   // guarded by mutex
  // The waiter of AsyncJoin, called once when the last task ends. Guarded by mutex.
  std::function<void()> on_empty;

  void Ended(std::list<std::shared_ptr<Task>>::iterator task) {
    std::function<void()> notify;
    {
      std::scoped_lock lock(mutex);
      tasks.erase(task);
      if (!tasks.empty()) return;
      notify = std::exchange(on_empty, nullptr);
      empty.notify_all();
    }
    if (notify) notify();
  }
};

AsyncScope::AsyncScope() : state_(std::make_shared<State>()) {}

AsyncScope::~AsyncScope() { CHECK_MSG(size() == 0, "an AsyncScope ended before its coroutines"); }

bool AsyncScope::Spawn(boost::asio::any_io_executor executor,
                       boost::asio::awaitable<void> coroutine) {
  auto task = std::make_shared<State::Task>(executor);
  std::list<std::shared_ptr<State::Task>>::iterator place;
  {
    std::scoped_lock lock(state_->mutex);
    if (state_->stopping) return false;
    place = state_->tasks.insert(state_->tasks.end(), task);
  }
  // The state outlives the scope in the last completion's hands: a joiner may destroy the scope as
  // soon as it sees the list empty.
  auto start = [state = state_, place, task, coroutine = std::move(coroutine)]() mutable {
    auto done = [state, place, task](std::exception_ptr error) {
      if (error) {
        try {
          std::rethrow_exception(error);
        } catch (const boost::system::system_error& e) {
          CHECK_MSG(e.code() == boost::asio::error::operation_aborted, e.what());
        } catch (const std::exception& e) {
          CHECK_MSG(false, e.what());
        }
      }
      state->Ended(place);
    };
    auto executor_of_task = task->executor;
    boost::asio::co_spawn(
        executor_of_task, std::move(coroutine),
        boost::asio::bind_cancellation_slot(task->signal.slot(), std::move(done)));
  };
  // The cancellation slot must be connected on the executor that emits to it.
  boost::asio::post(executor, std::move(start));
  return true;
}

void AsyncScope::RequestStop() {
  std::vector<std::shared_ptr<State::Task>> tasks;
  {
    std::scoped_lock lock(state_->mutex);
    if (state_->stopping) return;
    state_->stopping = true;
    tasks.assign(state_->tasks.begin(), state_->tasks.end());
  }
  for (auto& task : tasks) {
    boost::asio::post(task->executor,
                      [task] { task->signal.emit(boost::asio::cancellation_type::terminal); });
  }
}

bool AsyncScope::stopping() const {
  std::scoped_lock lock(state_->mutex);
  return state_->stopping;
}

void AsyncScope::Stop() {
  RequestStop();
  std::unique_lock lock(state_->mutex);
  state_->empty.wait(lock, [this] { return state_->tasks.empty(); });
}

boost::asio::awaitable<void> AsyncScope::AsyncJoin() {
  auto executor = co_await boost::asio::this_coro::executor;
  auto timer = std::make_shared<boost::asio::steady_timer>(executor);
  timer->expires_at(boost::asio::steady_timer::time_point::max());
  auto state = state_;
  {
    std::scoped_lock lock(state->mutex);
    if (state->tasks.empty()) co_return;
    CHECK_MSG(!state->on_empty, "AsyncJoin has one waiter at a time");
    state->on_empty = [timer, executor] {
      boost::asio::post(executor, [timer] { timer->cancel(); });
    };
  }
  for (;;) {
    boost::system::error_code ec;
    auto token = boost::asio::redirect_error(boost::asio::use_awaitable, ec);
    co_await timer->async_wait(token);
    std::scoped_lock lock(state->mutex);
    if (state->tasks.empty()) co_return;
    if (ec == boost::asio::error::operation_aborted && state->on_empty) {
      // The waiter itself was cancelled: it must not be called back.
      state->on_empty = nullptr;
      throw boost::system::system_error(ec);
    }
  }
}

boost::asio::awaitable<void> AsyncScope::AsyncStop() {
  RequestStop();
  co_await AsyncJoin();
}

size_t AsyncScope::size() const {
  std::scoped_lock lock(state_->mutex);
  return state_->tasks.size();
}

}  // namespace onggi

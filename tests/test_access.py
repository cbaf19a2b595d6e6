from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from blobcache.access import Access, knows_registry, may_view_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.conf import LazySettings


class Someone:
    """A user without a database row."""

    is_authenticated = True

    def __init__(self, *grants: str) -> None:
        self.grants = grants

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return f"{perm}:{obj}" in self.grants if obj is not None else perm in self.grants


def access(*grants: str) -> Access:
    user: Any = Someone(*grants)
    return Access(user)


@pytest.mark.parametrize("action", ["view", "change", "delete"])
def test_a_model_level_permission_is_for_every_repository(action: Any) -> None:
    who = access(f"blobcache.{action}_repository")
    assert who.may_in_every_repository(action)
    assert who.may_in_repository(action, "a/b")
    assert who.may_in_repository(action, "NO NAME")
    assert not who.may_globally(action)


@pytest.mark.parametrize("action", ["view", "change", "delete"])
def test_an_object_level_permission_is_for_one_repository(action: Any) -> None:
    who = access(f"blobcache.{action}_repository:a/b")
    assert who.may_in_repository(action, "a/b")
    assert not who.may_in_repository(action, "a/c")
    assert not who.may_in_every_repository(action)


def test_an_invalid_name_has_no_object_level_permission() -> None:
    assert not access("blobcache.view_repository:NO NAME").may_in_repository("view", "NO NAME")


VIEW_BLOB, VIEW_A = "blobcache.view_blob", "blobcache.view_repository:a"


def test_setting_in_a_repository_needs_the_permission_to_change_blobs() -> None:
    assert not access(VIEW_A, VIEW_BLOB, "blobcache.change_repository").may_set("a")
    assert not access(VIEW_A, VIEW_BLOB, "blobcache.change_blob").may_set("a")
    assert access(VIEW_A, "blobcache.change_blob", "blobcache.change_repository:a").may_set("a")
    assert access(VIEW_BLOB, "blobcache.change_blob").may_set(None)


def test_purging_needs_both_permissions_to_delete() -> None:
    assert not access(VIEW_BLOB, "blobcache.delete_repository").may_purge()
    assert not access(VIEW_BLOB, "blobcache.delete_blob").may_purge()
    assert access(VIEW_BLOB, "blobcache.delete_blob", "blobcache.delete_repository").may_purge()


def test_clearing_needs_the_permission_to_delete_there() -> None:
    assert access(VIEW_A, "blobcache.delete_repository:a").may_clear("a")
    assert not access(VIEW_A, VIEW_BLOB, "blobcache.delete_repository:a").may_clear(None)
    assert access(VIEW_BLOB, "blobcache.delete_blob").may_clear(None)


def test_a_permission_to_change_or_delete_includes_viewing() -> None:
    changes, deletes = "blobcache.change_blob", "blobcache.delete_blob"
    who = access(
        changes, deletes, "blobcache.change_repository", "blobcache.delete_repository:a", VIEW_A
    )
    assert not who.may_set(None)
    assert not who.may_clear(None)
    assert not who.may_purge()
    assert not who.may_set("b")
    assert who.may_set("a")
    assert who.may_clear("a")
    assert not access(deletes, "blobcache.delete_repository").may_clear("a")


def test_the_status_needs_the_permission_to_view_all_repositories_or_blobs() -> None:
    assert access("blobcache.view_repository").may_view_status()
    assert access(VIEW_BLOB).may_view_status()
    assert not access(VIEW_A, "blobcache.change_blob").may_view_status()


@pytest.mark.parametrize("user", [None, AnonymousUser()])
def test_an_anonymous_user_may_do_nothing(user: Any, db: None) -> None:
    who = Access(user)
    assert not who.may_in_repository("view", "a")
    assert not who.may_globally("view")
    assert not who.may_list_repositories()


class Grants:
    """A backend that lets everybody view repositories, by the first object alone."""

    def __init__(self) -> None:
        self.is_new = True

    def has_perm(self, user: object, perm: str, obj: object = None) -> bool:
        was_new, self.is_new = self.is_new, False
        return was_new and perm == "blobcache.view_repository"


class RefusesAll:
    """A backend that ends the search for one that grants."""

    def has_perm(self, user: object, perm: str, obj: object = None) -> bool:
        raise PermissionDenied


class KnowsTheClass:
    """A backend that lets users of a class do everything."""

    def has_perm(self, user: object, perm: str, obj: object = None) -> bool:
        return type(user) is User


class KnowsNothing:
    """A backend that has no permissions."""


class GrantsWhatItIsFor:
    """A backend that needs an argument, so that a function makes it."""

    def __init__(self, permission: str) -> None:
        self.permission = permission

    def has_perm(self, user: object, perm: str, obj: object = None) -> bool:
        return perm == self.permission


def makes_one_that_grants() -> GrantsWhatItIsFor:
    """Return such a backend; Django only calls what a path names."""
    return GrantsWhatItIsFor("blobcache.view_repository")


class CannotBeMade:
    """A backend that raises an error, such as for a wrong setting of its own."""

    def __init__(self) -> None:
        raise LookupError


@pytest.mark.parametrize("user", [AnonymousUser(), User(pk=1), User(pk=1, is_superuser=True)])
@pytest.mark.parametrize(
    "backends",
    [
        ["Grants"],
        ["KnowsNothing", "Grants"],
        ["RefusesAll", "Grants"],
        ["Grants", "RefusesAll"],
        ["KnowsNothing"],
        ["makes_one_that_grants"],
    ],
)
def test_backends_are_asked_as_django_asks_them(
    backends: list[str], user: Any, settings: LazySettings, db: None
) -> None:
    assert Access(user).may_globally("view") is user.is_superuser
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_access.{each}" for each in backends]
    expected = user.has_perm("blobcache.view_repository")
    for _ in range(2):
        assert Access(user).may_in_repository("view", "a") is expected
    assert Access(user).may_globally("view") is user.is_superuser


def test_a_superuser_who_is_not_active_may_do_nothing(db: None) -> None:
    assert not Access(User(pk=1, is_superuser=True, is_active=False)).may_globally("view")


def test_backends_are_asked_about_the_user_behind_a_lazy_one(settings: LazySettings) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.test_access.KnowsTheClass"]
    user: Any = SimpleLazyObject(lambda: User(pk=1))
    assert Access(user).may_globally("view")


def test_a_backend_that_cannot_be_made_is_an_error_even_if_another_grants(
    settings: LazySettings,
) -> None:
    settings.AUTHENTICATION_BACKENDS = [
        f"tests.test_access.{each}" for each in ("Grants", "CannotBeMade")
    ]
    for ask in (AnonymousUser().has_perm, lambda _: Access(None).may_in_repository("view", "a")):
        with pytest.raises(LookupError):
            ask("blobcache.view_repository")


def test_a_backend_that_is_replaced_or_removed_without_a_signal_grants_nothing(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUTHENTICATION_BACKENDS = paths = [
        f"tests.test_access.{each}" for each in ("KnowsNothing", "Grants")
    ]
    assert Access(None).may_in_repository("view", "a")
    with monkeypatch.context() as patch:
        patch.setattr("tests.test_access.Grants", KnowsNothing)
        assert not Access(None).may_in_repository("view", "a")
    assert Access(None).may_in_repository("view", "a")
    paths.pop()
    assert not Access(None).may_in_repository("view", "a")


def test_a_function_that_is_replaced_without_a_signal_is_asked_no_more(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BLOBCACHE = {"default": {"VISIBLE_REPOSITORIES": "tests.test_access.sees_a"}}
    granted: Any = Someone("blobcache.view_repository")
    assert Access(granted).may_in_repository("view", "a")
    monkeypatch.setattr("tests.test_access.sees_a", lambda user, registry: [])
    assert not Access(granted).may_in_repository("view", "a")


def sees_a(user: object) -> list[str]:
    return ["a"]


def test_without_any_backend_the_error_is_djangos(settings: LazySettings) -> None:
    settings.AUTHENTICATION_BACKENDS = []
    with pytest.raises(ImproperlyConfigured, match="AUTHENTICATION_BACKENDS"):
        Access(None).may_globally("view")


def test_a_user_object_without_has_perm_may_do_nothing() -> None:
    user: Any = object()
    assert not Access(user).may_in_repository("view", "a")


def only_a(user: object) -> list[str]:
    return ["a/"]


def everything(user: object) -> None:
    return None


def visible(function: str) -> Any:
    path = f"tests.test_access.{function}"
    return override_settings(BLOBCACHE={"default": {"VISIBLE_REPOSITORIES": path}})


def test_only_an_anonymous_user_who_can_view_none_may_not_list_repositories() -> None:
    class Anonymous(Someone):
        is_authenticated = False

    nobody: Any = Anonymous()
    viewer: Any = Anonymous("blobcache.view_repository")
    assert access().may_list_repositories()
    assert not Access(nobody).may_list_repositories()
    assert Access(viewer).may_list_repositories()
    with visible("only_a"):
        assert Access(nobody).may_list_repositories()
    with visible("everything"):
        assert not Access(nobody).may_list_repositories()


def test_who_may_list_repositories_or_view_blobs_may_read_the_journal() -> None:
    class Anonymous(Someone):
        is_authenticated = False

    nobody: Any = Anonymous()
    viewer: Any = Anonymous(VIEW_BLOB)
    assert access().may_view_changes()
    assert Access(viewer).may_view_changes()
    assert not Access(viewer).may_list_repositories()
    assert not Access(nobody).may_view_changes()


def test_the_setting_limits_what_is_visible() -> None:
    with visible("only_a"):
        who = access("blobcache.view_repository")
        assert who.may_in_repository("view", "a/b")
        assert not who.may_in_repository("view", "b")
        assert not who.may_in_repository("view", "a")
        assert who.visible.ranges == ("a/",)
        assert who.visible.predicate is None


def test_the_setting_grants_no_permission() -> None:
    with visible("only_a"):
        who = access("blobcache.view_repository:a/b")
        assert who.may_in_repository("view", "a/b")
        assert not who.may_in_repository("view", "a/c")
        assert who.visible.predicate is not None


def test_the_setting_may_allow_everything() -> None:
    with visible("everything"):
        assert access("blobcache.view_repository").visible.ranges is None
        assert not access().may_in_repository("view", "a")


def test_a_user_sees_everything_with_the_model_permission_and_no_ranges() -> None:
    view = "blobcache.view_repository"
    assert access(view).sees_all
    assert not access(f"{view}:a/b").sees_all
    with visible("everything"):
        assert access(view).sees_all
        assert not access(f"{view}:a/b").sees_all
    with visible("only_a"):
        assert not access(view).sees_all


TWO: Any = {"default": {}, "staging": {}}


@pytest.fixture
def two() -> Iterator[None]:
    with override_settings(BLOBCACHE=TWO):
        yield


class Aware(Someone):
    """A user with permissions by registry."""

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return super().has_perm(perm, obj if obj is None else f"{obj.registry}::{obj}")


@pytest.mark.usefixtures("two")
def test_who_knows_names_alone_answers_for_the_default_registry_alone() -> None:
    user: Any = Someone("blobcache.view_repository:a")
    assert Access(user).may_in_repository("view", "a")
    assert not Access(user, "staging").may_in_repository("view", "a")
    assert not Access(user, "staging").may_view_registry("a")


@pytest.mark.usefixtures("two")
def test_who_looks_at_the_registry_answers_for_each() -> None:
    user: Any = Aware("blobcache.view_repository:staging::a")
    assert not Access(user).may_in_repository("view", "a")
    assert Access(user, "staging").may_in_repository("view", "a")
    assert not Access(user, "staging").may_in_repository("view", "b")


@pytest.mark.usefixtures("two")
def test_a_model_level_permission_is_for_every_registry() -> None:
    user: Any = Someone("blobcache.view_repository")
    assert Access(user, "staging").may_in_repository("view", "a")
    assert may_view_registry(user, "staging")


class NamesAlone(ModelBackend):
    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return obj is not None and obj.name == "a"


class ByRegistry(ModelBackend):
    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return obj is not None and (obj.registry, obj.name) == ("staging", "b")


class Refuses(ModelBackend):
    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if obj is not None and obj.registry == "staging":
            raise PermissionDenied
        return False


@pytest.mark.parametrize("order", [("NamesAlone", "ByRegistry"), ("ByRegistry", "NamesAlone")])
@pytest.mark.usefixtures("two")
@pytest.mark.django_db
def test_each_backend_is_asked_by_itself_whether_it_looks_at_the_registry(
    order: tuple[str, ...], settings: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_access.{name}" for name in order]
    user = User.objects.create_user("somebody")
    default, staging = Access(user), Access(user, "staging")
    assert default.may_in_repository("view", "a")
    assert not default.may_in_repository("view", "b")
    assert staging.may_in_repository("view", "b")
    assert not staging.may_in_repository("view", "a")


@pytest.mark.parametrize("order", [("NamesAlone", "ByRegistry"), ("ByRegistry", "NamesAlone")])
@pytest.mark.usefixtures("two")
@pytest.mark.django_db
def test_so_is_each_backend_for_users_who_are_not_known(
    order: tuple[str, ...], settings: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_access.{name}" for name in order]
    staging = Access(AnonymousUser(), "staging")
    assert staging.may_in_repository("view", "b")
    assert not staging.may_in_repository("view", "a")


@pytest.mark.parametrize("order", [("NamesAlone", "ByRegistry"), ("ByRegistry", "NamesAlone")])
@pytest.mark.usefixtures("two")
@pytest.mark.django_db
def test_so_is_each_backend_for_users_with_rules_of_their_own(
    order: tuple[str, ...], settings: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_access.{name}" for name in order]
    user: Any = User.objects.create_user("somebody")

    def has_perm(perm: str, obj: Any = None) -> bool:
        own = obj is not None and (obj.registry, obj.name) == ("staging", "own")
        return own or User.has_perm(user, perm, obj)

    user.has_perm = has_perm
    staging = Access(user, "staging")
    assert staging.may_in_repository("view", "own")
    assert staging.may_in_repository("view", "b")
    assert not staging.may_in_repository("view", "a")
    assert not staging.may_in_repository("view", "c")


class LogsIn:
    """An authentication backend that knows nothing of permissions."""

    def authenticate(self, request: object) -> None:
        """Log nobody in."""


@pytest.mark.usefixtures("two")
@pytest.mark.django_db
def test_a_backend_need_not_know_of_permissions(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_access.{n}" for n in ("LogsIn", "ByRegistry")]
    user = User.objects.create_user("somebody")
    assert Access(user, "staging").may_in_repository("view", "b")
    assert not Access(user, "staging").may_in_repository("view", "a")


@pytest.mark.usefixtures("two")
@pytest.mark.django_db
def test_a_backend_may_end_the_question(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_access.{n}" for n in ("Refuses", "ByRegistry")]
    user = User.objects.create_user("somebody")
    assert not Access(user, "staging").may_in_repository("view", "b")


def only_b(user: object, registry: str) -> list[str]:
    return ["b/"] if registry == "staging" else []


def functions(function: str) -> Any:
    entry = {"VISIBLE_REPOSITORIES": f"tests.test_access.{function}"}
    return override_settings(BLOBCACHE={"default": entry, "staging": entry})


def test_the_function_of_visible_repositories_may_take_the_registry() -> None:
    user: Any = Someone("blobcache.view_repository")
    with functions("only_b"):
        assert Access(user).visible.ranges == ()
        assert Access(user, "staging").visible.ranges == ("b/",)


def with_an_option(user: object, request: object = None) -> list[str]:
    assert request is None
    return ["a/"]


def with_any_options(*arguments: object) -> list[str]:
    assert len(arguments) == 1
    return ["a/"]


def with_the_registry(user: object, registry: str = "default") -> list[str]:
    return ["b/"] if registry == "staging" else []


def test_the_registry_may_have_a_default() -> None:
    user: Any = Someone("blobcache.view_repository")
    with functions("with_the_registry"):
        assert Access(user, "staging").visible.ranges == ("b/",)


@pytest.mark.parametrize("function", ["only_a", "everything", "with_an_option", "with_any_options"])
def test_a_function_of_the_user_alone_shows_nothing_of_another_registry(function: str) -> None:
    user: Any = Someone("blobcache.view_repository")
    with functions(function):
        assert Access(user).may_in_repository("view", "a/b")
        assert Access(user, "staging").visible.ranges == ()
        assert not Access(user, "staging").may_in_repository("view", "a/b")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("grant", "repository", "may"),
    [
        ("blobcache.view_repository", None, True),
        ("blobcache.view_blob", None, True),
        ("blobcache.change_blob", None, False),
        ("blobcache.view_repository:staging::", None, True),
        ("blobcache.view_repository:staging::a", None, False),
        ("blobcache.view_repository:staging::a", "a", True),
        ("blobcache.view_repository:staging::a", "b", False),
        ("blobcache.view_repository:default::", None, False),
    ],
)
def test_who_may_view_a_registry(grant: str, repository: str | None, may: bool) -> None:
    user: Any = Aware(grant)
    assert may_view_registry(user, "staging", repository) is may
    assert may_view_registry(user, "default")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("grant", "repository", "knows"),
    [
        ("blobcache.view_repository", None, True),
        ("blobcache.view_repository:staging::", None, False),
        ("blobcache.view_repository:staging::", "a", False),
        ("blobcache.view_repository:default::", None, True),
        ("blobcache.view_repository:default::a", "a", True),
        ("blobcache.change_blob", None, True),
    ],
)
def test_who_may_view_another_registry_alone_does_not_know_the_default(
    grant: str, repository: str | None, knows: bool
) -> None:
    user: Any = Aware(grant)
    assert knows_registry(user, "default", repository) is knows


@pytest.mark.usefixtures("two")
def test_who_may_view_both_knows_both() -> None:
    user: Any = Aware("blobcache.view_repository:staging::", "blobcache.view_repository:default::")
    assert knows_registry(user, "default")
    assert knows_registry(user, "staging")


def test_where_there_is_no_other_everybody_knows_the_default() -> None:
    user: Any = Aware()
    assert knows_registry(user, "default")


@pytest.mark.usefixtures("two")
def test_a_registry_that_is_not_configured_is_one_that_nobody_may_view() -> None:
    user: Any = Someone("blobcache.view_repository", "blobcache.view_blob")
    assert not may_view_registry(user, "production")


def test_visible_names_are_enough_to_view_a_registry() -> None:
    user: Any = Someone()
    with functions("only_b"):
        assert may_view_registry(user, "staging")
    with functions("only_a"):
        assert not may_view_registry(user, "staging")
